using MassTransit;

namespace Shop.Order;

/// <summary>Tells the saga when an order has taken too long.</summary>
public class Deadlines(IBus bus)
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(
        double.Parse(Environment.GetEnvironmentVariable("ORDER_DEADLINE_SECONDS") ?? "30"));

    public void Begin(Guid orderId) =>
        _ = Task.Delay(Limit).ContinueWith(_ => bus.Publish(new OrderExpired(orderId)));
}

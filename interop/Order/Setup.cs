using Contracts;
using MassTransit;
using Shop.Hosting;

namespace Shop.Order;

public static class Setup
{
    public record PlaceOrder(
        string CustomerId, IReadOnlyList<OrderItem> Items, string PaymentMethod, long? ExpectedTotal);

    public static void AddOrder(this IServiceCollection services)
    {
        services.AddSingleton<Deadlines>();
        services.AddBus("order", x =>
            x.AddSagaStateMachine<OrderStateMachine, OrderState>().InMemoryRepository());
    }

    public static void MapOrders(this WebApplication app)
    {
        app.MapPost("/orders", async (PlaceOrder order, IBus bus, Deadlines deadlines) =>
        {
            var orderId = NewId.NextGuid();
            await bus.Publish(new SubmitOrder(
                orderId, order.CustomerId, order.Items, order.PaymentMethod, order.ExpectedTotal));
            deadlines.Begin(orderId);
            return Results.Accepted($"/orders/{orderId}", new { orderId });
        });
        app.MapGet("/orders/{orderId:guid}",
            async (Guid orderId, ILoadSagaRepository<OrderState> orders) =>
                await orders.Load(orderId) is { } order ? Results.Ok(order) : Results.NotFound());
    }
}

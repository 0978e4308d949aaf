using Contracts;
using MassTransit;

namespace Shop.Stock;

public class OrderCreatedConsumer(Shelves shelves) : IConsumer<OrderCreatedEvent>
{
    public async Task Consume(ConsumeContext<OrderCreatedEvent> context)
    {
        var order = context.Message;
        var answer = await shelves.Reserve(order);
        if (answer.Reason is null)
            await context.Publish(new StockReservedEvent(
                order.OrderId, order.CustomerId, order.Items, answer.Total!.Value, answer.Currency!,
                order.PaymentMethod));
        else
            await context.Publish(
                new StockNotReservedEvent(order.OrderId, answer.Reason, answer.ProductId));
    }
}

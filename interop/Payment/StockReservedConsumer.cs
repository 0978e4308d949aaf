using Contracts;
using MassTransit;

namespace Shop.Payment;

public class StockReservedConsumer(Payments payments) : IConsumer<StockReservedEvent>
{
    public async Task Consume(ConsumeContext<StockReservedEvent> context)
    {
        var (orderId, _, _, total, currency, method) = context.Message;
        var payment = await payments.Take(orderId, total, currency, method);
        if (payment.Status == "Completed")
            await context.Publish(
                new PaymentCompletedEvent(orderId, payment.Amount, payment.Currency));
        else if (payment.Status is "Failed" or "Cancelled")
            await context.Publish(new PaymentFailedEvent(orderId, payment.Reason ?? "Cancelled"));
    }
}

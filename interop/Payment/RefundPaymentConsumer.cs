using Contracts;
using MassTransit;

namespace Shop.Payment;

public class RefundPaymentConsumer(Payments payments) : IConsumer<RefundPayment>
{
    public async Task Consume(ConsumeContext<RefundPayment> context)
    {
        var orderId = context.Message.OrderId;
        var refunded = await payments.Refund(orderId);
        await context.Publish(new PaymentRefundedEvent(orderId, refunded, null));
    }
}

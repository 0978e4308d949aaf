using Contracts;
using MassTransit;
using Shop.Hosting;

namespace Shop.Order;

public class OrderStateMachine : MassTransitStateMachine<OrderState>
{
    public State Suspend { get; private set; } = null!;
    public State TakingPayment { get; private set; } = null!;
    public State Completed { get; private set; } = null!;
    public State ReleasingStock { get; private set; } = null!;
    public State Refunding { get; private set; } = null!;
    public State Failed { get; private set; } = null!;

    public Event<SubmitOrder> Submitted { get; private set; } = null!;
    public Event<OrderExpired> Expired { get; private set; } = null!;
    public Event<StockReservedEvent> StockReserved { get; private set; } = null!;
    public Event<StockNotReservedEvent> StockNotReserved { get; private set; } = null!;
    public Event<StockReleasedEvent> StockReleased { get; private set; } = null!;
    public Event<PaymentCompletedEvent> PaymentCompleted { get; private set; } = null!;
    public Event<PaymentFailedEvent> PaymentFailed { get; private set; } = null!;
    public Event<PaymentRefundedEvent> PaymentRefunded { get; private set; } = null!;

    public OrderStateMachine()
    {
        InstanceState(x => x.CurrentState);
        Event(() => Submitted, x => x.CorrelateById(m => m.Message.OrderId));
        Event(() => Expired, x => x.CorrelateById(m => m.Message.OrderId));
        Event(() => StockReserved, x => x.CorrelateById(m => m.Message.OrderId));
        Event(() => StockNotReserved, x => x.CorrelateById(m => m.Message.OrderId));
        Event(() => StockReleased, x => x.CorrelateById(m => m.Message.OrderId));
        Event(() => PaymentCompleted, x => x.CorrelateById(m => m.Message.OrderId));
        Event(() => PaymentFailed, x => x.CorrelateById(m => m.Message.OrderId));
        Event(() => PaymentRefunded, x => x.CorrelateById(m => m.Message.OrderId));

        Initially(
            When(Submitted)
                .Then(x => x.Saga.CustomerId = x.Message.CustomerId)
                .TransitionTo(Suspend)
                .Publish(x => new OrderCreatedEvent(
                    x.Message.OrderId, x.Message.CustomerId, x.Message.Items,
                    x.Message.PaymentMethod, x.Message.ExpectedTotal)));

        During(Suspend,
            When(StockReserved)
                .Then(x =>
                {
                    x.Saga.Total = x.Message.Total;
                    x.Saga.Currency = x.Message.Currency;
                })
                .IfElse(x => x.Saga.Paid == x.Saga.Total,
                    paid => paid.TransitionTo(Completed).Publish(x => CompletedEvent(x.Saga)),
                    open => open.TransitionTo(TakingPayment)),
            When(StockNotReserved)
                .Then(x => x.Saga.FailureReason = x.Message.Reason)
                .TransitionTo(Failed)
                .Publish(x => FailedEvent(x.Saga)),
            // It may overtake stock's answer.
            When(PaymentCompleted)
                .Then(x => x.Saga.Paid = x.Message.Amount),
            When(PaymentFailed)
                .Then(x => x.Saga.FailureReason = x.Message.Reason)
                .TransitionTo(ReleasingStock)
                .Send(Stock, x => new ReleaseStock(x.Saga.CorrelationId))
                .Publish(x => FailedEvent(x.Saga)),
            When(Expired)
                .Then(x => x.Saga.FailureReason = "DeadlineExceeded")
                .TransitionTo(ReleasingStock)
                .Send(Stock, x => new ReleaseStock(x.Saga.CorrelationId))
                .Publish(x => FailedEvent(x.Saga)));

        During(TakingPayment,
            When(PaymentCompleted, x => x.Message.Amount == x.Saga.Total)
                .TransitionTo(Completed)
                .Publish(x => CompletedEvent(x.Saga)),
            When(PaymentFailed)
                .Then(x => x.Saga.FailureReason = x.Message.Reason)
                .TransitionTo(ReleasingStock)
                .Send(Stock, x => new ReleaseStock(x.Saga.CorrelationId))
                .Publish(x => FailedEvent(x.Saga)),
            When(Expired)
                .Then(x =>
                {
                    x.Saga.FailureReason = "DeadlineExceeded";
                    x.Saga.MayBePaid = true;
                })
                .TransitionTo(ReleasingStock)
                .Send(Stock, x => new ReleaseStock(x.Saga.CorrelationId))
                .Publish(x => FailedEvent(x.Saga)),
            Ignore(StockReserved),
            Ignore(StockNotReserved));

        During(ReleasingStock,
            When(StockReserved).Then(x => x.Saga.MayBePaid = true),
            When(PaymentCompleted).Then(x => x.Saga.MayBePaid = true),
            When(PaymentFailed).Then(x => x.Saga.MayBePaid = false),
            When(StockReleased)
                .IfElse(x => x.Saga.MayBePaid,
                    paid => paid
                        .TransitionTo(Refunding)
                        .Send(Payment, x => new RefundPayment(x.Saga.CorrelationId)),
                    open => open.TransitionTo(Failed)),
            Ignore(StockNotReserved),
            Ignore(Expired));

        During(Refunding,
            When(PaymentRefunded).TransitionTo(Failed),
            Ignore(PaymentCompleted),
            Ignore(PaymentFailed),
            Ignore(StockReserved),
            Ignore(StockNotReserved),
            Ignore(StockReleased),
            Ignore(Expired));

        During(Failed,
            // Late answers to an order that has failed: what they did is undone too.
            When(StockReserved)
                .Then(x => x.Saga.MayBePaid = true)
                .TransitionTo(ReleasingStock)
                .Send(Stock, x => new ReleaseStock(x.Saga.CorrelationId)),
            When(PaymentCompleted)
                .TransitionTo(Refunding)
                .Send(Payment, x => new RefundPayment(x.Saga.CorrelationId)),
            Ignore(StockNotReserved),
            Ignore(StockReleased),
            Ignore(PaymentFailed),
            Ignore(PaymentRefunded),
            Ignore(Expired));

        During(Completed,
            Ignore(StockReserved),
            Ignore(StockNotReserved),
            Ignore(StockReleased),
            Ignore(PaymentCompleted),
            Ignore(PaymentFailed),
            Ignore(PaymentRefunded),
            Ignore(Expired));
    }

    private static Uri Stock => ServiceBus.AddressOf("stock");

    private static Uri Payment => ServiceBus.AddressOf("payment");

    private static OrderCompletedEvent CompletedEvent(OrderState order) =>
        new(order.CorrelationId, order.CustomerId, order.Total!.Value, order.Currency!);

    private static OrderFailedEvent FailedEvent(OrderState order) =>
        new(order.CorrelationId, order.CustomerId, order.FailureReason!);
}

namespace Contracts;

public record OrderItem(string ProductId, int Quantity);

public record OrderCreatedEvent(
    Guid OrderId,
    string CustomerId,
    IReadOnlyList<OrderItem> Items,
    string PaymentMethod,
    long? ExpectedTotal);

public record OrderCompletedEvent(Guid OrderId, string CustomerId, long Total, string Currency);

public record OrderFailedEvent(Guid OrderId, string CustomerId, string Reason);

namespace Contracts;

public record StockReservedEvent(
    Guid OrderId,
    string CustomerId,
    IReadOnlyList<OrderItem> Items,
    long Total,
    string Currency,
    string PaymentMethod);

public record StockNotReservedEvent(Guid OrderId, string Reason, string? ProductId);

public record ReleaseStock(Guid OrderId);

public record StockReleasedEvent(Guid OrderId);

using Contracts;

namespace Shop.Order;

public record SubmitOrder(
    Guid OrderId,
    string CustomerId,
    IReadOnlyList<OrderItem> Items,
    string PaymentMethod,
    long? ExpectedTotal);

public record OrderExpired(Guid OrderId);

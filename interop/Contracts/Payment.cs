namespace Contracts;

public record PaymentCompletedEvent(Guid OrderId, long Amount, string Currency);

public record PaymentFailedEvent(Guid OrderId, string Reason);

public record RefundPayment(Guid OrderId);

public record PaymentRefundedEvent(Guid OrderId, long Amount, string? Reason);

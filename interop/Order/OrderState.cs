using MassTransit;

namespace Shop.Order;

public class OrderState : SagaStateMachineInstance
{
    public Guid CorrelationId { get; set; }
    public string CurrentState { get; set; } = "";
    public string CustomerId { get; set; } = "";
    public long? Total { get; set; }
    public string? Currency { get; set; }
    public string? FailureReason { get; set; }
    /// <summary>What payment said that it took, which may come before stock names the price.</summary>
    public long? Paid { get; set; }
    public bool MayBePaid { get; set; }
}

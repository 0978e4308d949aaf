using Acme.Parcels;
using Contracts;
using MassTransit;

namespace Shop.Recorder;

/// <summary>Sends one message of every kind, for whoever records them.</summary>
public static class Recorder
{
    private static readonly Guid OrderId = Guid.Parse("9d1be263-bb8a-401c-85c4-ab4203948c80");
    private static readonly OrderItem[] Items = [new("keyboard", 1), new("mouse", 2)];

    public static void AddRecorder(this IServiceCollection services) =>
        services.AddMassTransit(x =>
        {
            x.AddConsumer<RefusingConsumer>();
            x.AddConsumer<FeeConsumer>();
            x.AddMessageScheduler(new Uri("queue:scheduler"));
            x.UsingRabbitMq((context, cfg) =>
            {
                cfg.Host(new Uri(Environment.GetEnvironmentVariable("RABBITMQ_URL")!));
                if (Environment.GetEnvironmentVariable("SERIALIZER") == "raw")
                    cfg.UseRawJsonSerializer();
                cfg.UseMessageScheduler(new Uri("queue:scheduler"));
                cfg.ReceiveEndpoint("recorder", e => e.ConfigureConsumers(context));
            });
        });

    public static void MapRecorder(this WebApplication app) =>
        app.MapPost("/send", async (IBus bus, IMessageScheduler scheduler, IClientFactory clients) =>
        {
            await bus.Publish(new OrderCreatedEvent(OrderId, "ada", Items, "pm_card_visa", null));
            await bus.Publish(new OrderCompletedEvent(OrderId, "ada", 16700, "EUR"));
            await bus.Publish(new OrderFailedEvent(OrderId, "ada", "OutOfStock"));
            await bus.Publish(
                new StockReservedEvent(OrderId, "ada", Items, 16700, "EUR", "pm_card_visa"));
            await bus.Publish(new StockNotReservedEvent(OrderId, "PriceChanged", null));
            await bus.Publish(new StockReleasedEvent(OrderId));
            await bus.Publish(new PaymentCompletedEvent(OrderId, 16700, "EUR"));
            await bus.Publish(new PaymentFailedEvent(OrderId, "CardDeclined"));
            await bus.Publish(new PaymentRefundedEvent(OrderId, 0, null));
            await bus.Publish(new CourierBooked(OrderId, 19.99m));
            await bus.PublishBatch<ParcelRequested>(
                [new(OrderId, "1 Main Street"), new(Guid.Empty, "2 Main Street")]);
            await (await bus.GetSendEndpoint(new Uri("exchange:stock"))).Send(new ReleaseStock(OrderId));
            await (await bus.GetSendEndpoint(new Uri("exchange:payment"))).Send(new RefundPayment(OrderId));
            await scheduler.SchedulePublish(
                new DateTime(2030, 1, 2, 3, 4, 5, DateTimeKind.Utc), new StockReleasedEvent(OrderId));
            await clients.CreateRequestClient<GetFee>().GetResponse<Fee>(new GetFee("student"));
        });
}

public class RefusingConsumer : IConsumer<OrderCreatedEvent>
{
    public Task Consume(ConsumeContext<OrderCreatedEvent> context) =>
        throw new InvalidOperationException("Out of paper: the printer is empty");
}

public class FeeConsumer : IConsumer<GetFee>
{
    public Task Consume(ConsumeContext<GetFee> context) =>
        context.RespondAsync(new Fee(context.Message.Plan == "student" ? 1500 : 3000));
}

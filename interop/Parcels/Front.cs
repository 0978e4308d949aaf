using System.Collections.Concurrent;
using Acme.Parcels;
using MassTransit;
using Shop.Hosting;

namespace Shop.Parcels;

/// <summary>A front end: publishes, sends, asks, and hears of what went wrong.</summary>
public static class Front
{
    public static void AddFront(this IServiceCollection services)
    {
        services.AddSingleton<ConcurrentQueue<string>>();
        services.AddBus("front", x =>
        {
            x.AddConsumer<PackFaultConsumer>();
            x.AddRequestClient<GetFee>();
        });
    }

    public static void MapFront(this WebApplication app)
    {
        app.MapPost("/parcels", async (ParcelRequested parcel, IBus bus) => await bus.Publish(parcel));
        app.MapPost("/pack", async (PackParcel parcel, IBus bus) =>
        {
            var desk = await bus.GetSendEndpoint(ServiceBus.AddressOf("desk"));
            await desk.Send(parcel);
        });
        app.MapGet("/fee/{plan}", async (string plan, double seconds, IRequestClient<GetFee> client) =>
        {
            try
            {
                var fee = await client.GetResponse<Fee>(
                    new GetFee(plan), timeout: RequestTimeout.After(ms: (int)(seconds * 1000)));
                return Results.Ok(new { cents = (int?)fee.Message.Cents, error = "" });
            }
            catch (RequestTimeoutException)
            {
                return Results.Ok(new { cents = (int?)null, error = "timeout" });
            }
            catch (RequestFaultException exception)
            {
                return Results.Ok(new { cents = (int?)null, error = exception.Message });
            }
        });
        app.MapGet("/faults", (ConcurrentQueue<string> faults) => faults);
    }
}

public class PackFaultConsumer(ConcurrentQueue<string> faults) : IConsumer<Fault<PackParcel>>
{
    public Task Consume(ConsumeContext<Fault<PackParcel>> context)
    {
        faults.Enqueue($"{context.Message.Message.ParcelId}: {context.Message.Exceptions[0].Message}");
        return Task.CompletedTask;
    }
}

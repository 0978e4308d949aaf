using Acme.Parcels;
using MassTransit;
using Shop.Hosting;

namespace Shop.Parcels;

/// <summary>Books couriers and knows prices; each consumer has a queue of its own.</summary>
public static class Courier
{
    public static void AddCourier(this IServiceCollection services) =>
        services.AddBus("courier", x =>
        {
            x.AddConsumer<BookCourierConsumer>();
            x.AddConsumer<GetPriceConsumer>();
        });
}

public class BookCourierConsumer : IConsumer<BookCourier>
{
    public Task Consume(ConsumeContext<BookCourier> context)
    {
        if (context.Message.Address == "nowhere")
            throw new InvalidOperationException("No courier goes nowhere");
        return context.Publish(new CourierBooked(context.Message.ParcelId, 19.99m));
    }
}

public class GetPriceConsumer : IConsumer<GetPrice>
{
    public async Task Consume(ConsumeContext<GetPrice> context)
    {
        if (context.Message.Address == "nowhere")
            throw new InvalidOperationException("No courier goes nowhere");
        if (context.Message.Address == "far away") await Task.Delay(TimeSpan.FromSeconds(5));
        await context.RespondAsync(new Price(1999));
    }
}

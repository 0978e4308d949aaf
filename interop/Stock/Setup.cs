using MassTransit;
using Shop.Hosting;

namespace Shop.Stock;

public static class Setup
{
    public static void AddStock(this IServiceCollection services)
    {
        services.AddDatabase("stock_service");
        services.AddSingleton<Shelves>();
        services.AddBus("stock", x =>
        {
            x.AddConsumer<OrderCreatedConsumer>();
            x.AddConsumer<ReleaseStockConsumer>();
        });
    }
}

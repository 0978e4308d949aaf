using MassTransit;
using Shop.Hosting;

namespace Shop.Payment;

public static class Setup
{
    public static void AddPayment(this IServiceCollection services)
    {
        services.AddDatabase("payment_service");
        services.AddSingleton<Payments>();
        services.AddBus("payment", x =>
        {
            x.AddConsumer<StockReservedConsumer>();
            x.AddConsumer<RefundPaymentConsumer>();
        });
    }
}

using Contracts;
using MassTransit;

namespace Shop.Stock;

public class ReleaseStockConsumer(Shelves shelves) : IConsumer<ReleaseStock>
{
    public async Task Consume(ConsumeContext<ReleaseStock> context)
    {
        await shelves.Release(context.Message.OrderId);
        await context.Publish(new StockReleasedEvent(context.Message.OrderId));
    }
}

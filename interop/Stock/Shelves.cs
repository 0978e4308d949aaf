using Contracts;
using Npgsql;
using Shop.Hosting;

namespace Shop.Stock;

/// <summary>Reserved when it has no reason.</summary>
public record Answer(string? Reason, string? ProductId, long? Total, string? Currency);

/// <summary>Products and reservations; what was decided about an order is decided for good.</summary>
public class Shelves(NpgsqlDataSource database)
{
    private record Shelf(long UnitPrice, string Currency, long OnHand);

    public async Task<Answer> Reserve(OrderCreatedEvent order)
    {
        if (order.Items.Any(item => item.Quantity <= 0))
            throw new ArgumentException($"Order {order.OrderId} asks for less than one unit");
        await using var connection = await database.OpenConnectionAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        if (await DecidedBefore(connection, order.OrderId) is { } answer) return answer;
        var demand = order.Items
            .GroupBy(item => item.ProductId, item => item.Quantity)
            .ToDictionary(product => product.Key, product => product.Sum());
        var shelves = await Lock(connection, demand.Keys);
        var decision = Decide(order, demand, shelves);
        await Record(connection, order.OrderId, decision);
        if (decision.Reason is null)
            foreach (var (productId, quantity) in demand)
                await Take(connection, order.OrderId, productId, quantity, shelves[productId]);
        await transaction.CommitAsync();
        return decision;
    }

    /// <summary>A release that comes before its order leaves a row, and the order is refused.</summary>
    public async Task Release(Guid orderId)
    {
        await using var connection = await database.OpenConnectionAsync();
        await using var transaction = await connection.BeginTransactionAsync();
        await connection.Command(
            "insert into reservations (order_id, status) values ($1, 'Released') on conflict do nothing",
            orderId).ExecuteNonQueryAsync();
        var released = await connection.Command(
            "update reservations set status = 'Released', updated_at = now() where order_id = $1 and status = 'Reserved'",
            orderId).ExecuteNonQueryAsync();
        if (released > 0)
            await connection.Command(
                """
                update products set on_hand = on_hand + quantity, reserved = reserved - quantity,
                  version = version + 1, updated_at = now()
                from reservation_lines line
                where line.order_id = $1 and line.product_id = products.product_id
                """,
                orderId).ExecuteNonQueryAsync();
        await transaction.CommitAsync();
    }

    private static Answer Decide(
        OrderCreatedEvent order, Dictionary<string, int> demand, Dictionary<string, Shelf> shelves)
    {
        foreach (var (productId, quantity) in demand)
        {
            if (!shelves.TryGetValue(productId, out var shelf))
                return new Answer("UnknownProduct", productId, null, null);
            if (shelf.OnHand < quantity) return new Answer("OutOfStock", productId, null, null);
        }
        var total = demand.Sum(product => shelves[product.Key].UnitPrice * product.Value);
        return order.ExpectedTotal is { } expected && expected != total
            ? new Answer("PriceChanged", null, null, null)
            : new Answer(null, null, total, shelves.Values.First().Currency);
    }

    private static async Task<Answer?> DecidedBefore(NpgsqlConnection connection, Guid orderId)
    {
        await using var reader = await connection.Command(
            "select status, reason, product_id, total, currency from reservations where order_id = $1",
            orderId).ExecuteReaderAsync();
        if (!await reader.ReadAsync()) return null;
        string? Text(int column) => reader.IsDBNull(column) ? null : reader.GetString(column);
        return reader.GetString(0) switch
        {
            "Reserved" => new Answer(null, null, reader.GetInt64(3), Text(4)),
            "Released" => new Answer("Released", null, null, null),
            _ => new Answer(Text(1), Text(2), null, null)
        };
    }

    private static async Task<Dictionary<string, Shelf>> Lock(
        NpgsqlConnection connection, IEnumerable<string> productIds)
    {
        var shelves = new Dictionary<string, Shelf>();
        await using var reader = await connection.Command(
            """
            select product_id, unit_price, currency, on_hand from products
            where product_id = any($1) order by product_id for update
            """,
            (object)productIds.ToArray()).ExecuteReaderAsync();
        while (await reader.ReadAsync())
            shelves[reader.GetString(0)] =
                new Shelf(reader.GetInt64(1), reader.GetString(2), reader.GetInt64(3));
        return shelves;
    }

    private static Task Record(NpgsqlConnection connection, Guid orderId, Answer answer) =>
        connection.Command(
            """
            insert into reservations (order_id, status, reason, product_id, total, currency)
            values ($1, $2, $3, $4, $5, $6)
            """,
            orderId, answer.Reason is null ? "Reserved" : "Refused", answer.Reason,
            answer.ProductId, answer.Total, answer.Currency).ExecuteNonQueryAsync();

    private static async Task Take(
        NpgsqlConnection connection, Guid orderId, string productId, int quantity, Shelf shelf)
    {
        await connection.Command(
            "insert into reservation_lines (order_id, product_id, quantity, unit_price) values ($1, $2, $3, $4)",
            orderId, productId, quantity, shelf.UnitPrice).ExecuteNonQueryAsync();
        await connection.Command(
            """
            update products set on_hand = on_hand - $2, reserved = reserved + $2,
              version = version + 1, updated_at = now()
            where product_id = $1
            """,
            productId, (long)quantity).ExecuteNonQueryAsync();
    }
}

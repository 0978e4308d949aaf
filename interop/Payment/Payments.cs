using Npgsql;
using Shop.Hosting;

namespace Shop.Payment;

public record TakenPayment(string Status, long Amount, string Currency, string? Reason);

/// <summary>Payments by order; each is taken once, and given back once.</summary>
public class Payments(NpgsqlDataSource database)
{
    /// <summary>Asks the gateway, which declines by the payment method's name.</summary>
    public async Task<TakenPayment> Take(Guid orderId, long amount, string currency, string method)
    {
        var reason = method switch
        {
            "pm_card_chargeDeclined" => "CardDeclined",
            "pm_card_chargeDeclinedInsufficientFunds" => "InsufficientFunds",
            _ => null
        };
        await using var connection = await database.OpenConnectionAsync();
        await connection.Command(
            """
            insert into payments (order_id, status, amount, currency, payment_method, failure_reason)
            values ($1, $2, $3, $4, $5, $6) on conflict do nothing
            """,
            orderId, reason is null ? "Completed" : "Failed", amount, currency, method,
            reason).ExecuteNonQueryAsync();
        var payment = await Read(connection, orderId);
        if (payment.Currency != "" && (payment.Amount != amount || payment.Currency != currency))
            throw new InvalidOperationException(
                $"Order {orderId} is to be paid {payment.Amount} {payment.Currency}, not {amount} {currency}");
        return payment;
    }

    /// <summary>How much went back. What was not paid yet never will be.</summary>
    public async Task<long> Refund(Guid orderId)
    {
        await using var connection = await database.OpenConnectionAsync();
        await connection.Command(
            """
            insert into payments (order_id, status, amount, currency, payment_method)
            values ($1, 'Cancelled', 0, '', '') on conflict do nothing
            """,
            orderId).ExecuteNonQueryAsync();
        await connection.Command(
            """
            update payments set status = 'Refunded', refunded_amount = amount, updated_at = now()
            where order_id = $1 and status = 'Completed'
            """,
            orderId).ExecuteNonQueryAsync();
        return (await Read(connection, orderId)) is { Status: "Refunded", Amount: var amount } ? amount : 0;
    }

    private static async Task<TakenPayment> Read(NpgsqlConnection connection, Guid orderId)
    {
        await using var reader = await connection.Command(
            "select status, amount, currency, failure_reason from payments where order_id = $1",
            orderId).ExecuteReaderAsync();
        await reader.ReadAsync();
        return new TakenPayment(
            reader.GetString(0), reader.GetInt64(1), reader.GetString(2),
            reader.IsDBNull(3) ? null : reader.GetString(3));
    }
}

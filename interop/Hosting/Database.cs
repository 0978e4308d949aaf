using Npgsql;

namespace Shop.Hosting;

public static class Database
{
    /// <summary>The tables of a service, by DATABASE_URL (postgres://user:password@host:port/name).</summary>
    public static void AddDatabase(this IServiceCollection services, string schema)
    {
        var url = new Uri(Environment.GetEnvironmentVariable("DATABASE_URL")!);
        var user = url.UserInfo.Split(':').Select(Uri.UnescapeDataString).ToArray();
        var connection = new NpgsqlConnectionStringBuilder
        {
            Host = url.Host,
            Port = url.Port,
            Username = user[0],
            Password = user.ElementAtOrDefault(1),
            Database = url.AbsolutePath.TrimStart('/'),
            SearchPath = schema
        };
        services.AddSingleton(NpgsqlDataSource.Create(connection.ConnectionString));
    }

    public static NpgsqlCommand Command(
        this NpgsqlConnection connection, string sql, params object?[] values)
    {
        var command = new NpgsqlCommand(sql, connection);
        foreach (var value in values)
            command.Parameters.Add(new NpgsqlParameter { Value = value ?? DBNull.Value });
        return command;
    }
}

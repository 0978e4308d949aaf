using MassTransit;

namespace Shop.Hosting;

public static class ServiceBus
{
    /// <summary>
    /// Puts all consumers and sagas of a service on one receive endpoint, or each on a queue of its
    /// own when QUEUES=kebab-case. QUEUE_TYPE=quorum makes quorum queues.
    /// </summary>
    public static void AddBus(
        this IServiceCollection services,
        string endpoint,
        Action<IBusRegistrationConfigurator> register)
    {
        services.AddMassTransit(x =>
        {
            x.SetKebabCaseEndpointNameFormatter();
            register(x);
            x.AddConfigureEndpointsCallback((_, _, e) => Configure(e));
            x.UsingRabbitMq((context, cfg) =>
            {
                cfg.Host(new Uri(Environment.GetEnvironmentVariable("RABBITMQ_URL")!));
                if (Environment.GetEnvironmentVariable("QUEUES") == "kebab-case")
                    cfg.ConfigureEndpoints(context);
                else
                    cfg.ReceiveEndpoint(endpoint, e =>
                    {
                        Configure(e);
                        e.UseInMemoryOutbox(context);
                        e.ConfigureConsumers(context);
                        e.ConfigureSagas(context);
                    });
            });
        });
    }

    private static void Configure(IReceiveEndpointConfigurator endpoint)
    {
        if (endpoint is IRabbitMqReceiveEndpointConfigurator rabbit
            && Environment.GetEnvironmentVariable("QUEUE_TYPE") == "quorum")
            rabbit.SetQuorumQueue();
        endpoint.UseMessageRetry(r => r.Immediate(3));
    }

    /// <summary>Where commands to another service go.</summary>
    public static Uri AddressOf(string endpoint) =>
        new($"{Environment.GetEnvironmentVariable("ADDRESSES") ?? "exchange"}:{endpoint}");
}

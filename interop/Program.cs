using OpenTelemetry.Trace;
using Shop.Order;
using Shop.Payment;
using Shop.Stock;

var builder = WebApplication.CreateBuilder(args);
builder.Services.AddOpenTelemetry()
    .WithTracing(tracing => tracing.AddSource("Microsoft.AspNetCore", "MassTransit"));
var name = args.FirstOrDefault();
switch (name)
{
    case "order": builder.Services.AddOrder(); break;
    case "stock": builder.Services.AddStock(); break;
    case "payment": builder.Services.AddPayment(); break;
    default: throw new ArgumentException($"Expected order, stock or payment, got '{name}'");
}
var app = builder.Build();
app.MapHealthChecks("/health/ready");
if (name == "order") app.MapOrders();
app.Run();

using OpenTelemetry.Trace;
using Shop.Order;
using Shop.Parcels;
using Shop.Payment;
using Shop.Recorder;
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
    case "courier": builder.Services.AddCourier(); break;
    case "front": builder.Services.AddFront(); break;
    case "recorder": builder.Services.AddRecorder(); break;
    default: throw new ArgumentException($"Expected order, stock, payment, courier, front or recorder, got '{name}'");
}
var app = builder.Build();
app.MapHealthChecks("/health/ready");
if (name == "order") app.MapOrders();
if (name == "front") app.MapFront();
if (name == "recorder") app.MapRecorder();
app.Run();

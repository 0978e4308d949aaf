using MassTransit;

namespace Acme.Parcels;

public record ParcelRequested(Guid ParcelId, string Address);

public record BookCourier(Guid ParcelId, string Address);

/// <summary>Under a name of its own, in the envelope and on the broker.</summary>
[MessageUrn("courier-booked")]
[EntityName("courier-booked")]
public record CourierBooked(Guid ParcelId, decimal Price);

public record GetPrice(string Address);

public record Price(int Cents);

public record GetFee(string Plan);

public record Fee(int Cents);

public record PackParcel(Guid ParcelId);

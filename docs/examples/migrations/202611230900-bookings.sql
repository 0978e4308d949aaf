create table bookings (
  parcel_id uuid primary key,
  address   text not null
);

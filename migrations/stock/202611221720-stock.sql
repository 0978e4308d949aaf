create table products (
  product_id text primary key,
  name       text not null,
  unit_price bigint not null check (unit_price >= 0),
  currency   text not null,
  on_hand    bigint not null check (on_hand >= 0),
  reserved   bigint not null default 0 check (reserved >= 0),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
) with (fillfactor = 50);

comment on column products.unit_price is 'minor units';
comment on column products.on_hand is 'units that can still be reserved';
comment on column products.reserved is 'units held for orders';

-- One row an order, kept for ever: what makes reserving and releasing safe to repeat. A row that was Released without
-- lines is a tombstone: the release came first, and the reservation will be refused.
create table reservations (
  order_id   uuid primary key,
  status     text not null check (status in ('Reserved', 'Refused', 'Released')),
  reason     text,
  product_id text,
  total      bigint,
  currency   text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
) with (fillfactor = 85);

-- No foreign key: reservation and lines come in one statement and never change.
create table reservation_lines (
  order_id   uuid not null,
  product_id text not null,
  quantity   integer not null check (quantity > 0),
  unit_price bigint not null,
  primary key (order_id, product_id)
);

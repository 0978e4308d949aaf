create table orders (
  order_id       uuid primary key,
  customer_id    text not null,
  status         text not null default 'Suspend' check (status in ('Suspend', 'Completed', 'Failed')),
  failure_reason text,
  payment_method text not null,
  expected_total bigint,
  total          bigint,
  currency       text,
  created_at     timestamptz not null default now(),
  updated_at     timestamptz not null default now()
) with (fillfactor = 85);

comment on column orders.expected_total is 'minor units; what the client counted on';
comment on column orders.total is 'minor units; what stock asked';

-- No foreign key: order and lines come in one statement and never change, and the check would cost a look-up a line.
create table order_lines (
  order_id   uuid not null,
  line       integer not null,
  product_id text not null,
  quantity   integer not null check (quantity > 0),
  primary key (order_id, line)
);

-- A key names one order for ever; its hash tells another order under the same key.
create table idempotency_key (
  key          text primary key,
  request_hash text not null,
  order_id     uuid not null,
  created_at   timestamptz not null default now()
);

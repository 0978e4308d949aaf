-- One row an order, kept for ever. Pending and Refunding wait for the gateway; Cancelled was never charged and never will be.
create table payments (
  order_id          uuid primary key,
  status            text not null check (status in ('Pending', 'Completed', 'Failed', 'Refunding', 'Refunded', 'Cancelled')),
  amount            bigint not null,
  currency          text not null,
  payment_method    text not null,
  cause             jsonb,
  failure_reason    text,
  refunded_amount   bigint not null default 0,
  refund_requested  boolean not null default false,
  gateway_reference text,
  attempts          integer not null default 0,
  next_attempt_at   timestamptz,
  last_error        text,
  created_at        timestamptz not null default now(),
  updated_at        timestamptz not null default now()
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

create index payments_waiting on payments (next_attempt_at) where next_attempt_at is not null;

comment on column payments.amount is 'minor units';
comment on column payments.cause is 'conversation and trace context of the message that asked for the payment';
comment on column payments.next_attempt_at is 'when the gateway is asked (again); while it is being asked, when that attempt counts as lost';

-- Messages committed with the business rows, until the relay has brought them to the transport.
create table outbox (
  id          bigint generated always as identity primary key,
  message_id  uuid not null,
  destination text not null,
  required    boolean not null,
  payload     text not null,
  created_at  timestamptz not null default now(),
  due_at      timestamptz,
  attempts    integer not null default 0,
  last_error  text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

create index outbox_due on outbox (due_at) where due_at is not null;

comment on table outbox is 'Messages waiting for the relay; rows are deleted once the transport has confirmed them';
comment on column outbox.destination is 'exchange';
comment on column outbox.required is 'must reach a queue; otherwise it is tried again';
comment on column outbox.payload is 'MassTransit envelope, JSON';
comment on column outbox.due_at is 'not before this time; null: at once';

-- Ids of messages committed with the effects of handling them: what makes a second delivery harmless.
create table inbox (
  message_id uuid not null,
  endpoint   text not null,
  handled_at timestamptz not null default now(),
  primary key (message_id, endpoint)
);

-- Messages that could not be handled, byte for byte, with the cause.
create table dead_letter (
  id           bigint generated always as identity primary key,
  endpoint     text not null,
  message_id   text,
  payload      bytea not null,
  content_type text,
  exception    text not null,
  reason       text not null,
  created_at   timestamptz not null default now()
);

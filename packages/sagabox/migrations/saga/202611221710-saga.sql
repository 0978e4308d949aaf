-- One row an instance: the state the machine is in.
create table saga (
  saga          text not null,
  saga_id       uuid not null,
  state         text not null,
  value         jsonb not null,
  context       jsonb not null,
  version       integer not null,
  timers        jsonb not null,
  next_timer_at timestamptz,
  created_at    timestamptz not null default now(),
  updated_at    timestamptz not null default now(),
  primary key (saga, saga_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);

create index saga_next_timer on saga (next_timer_at) where next_timer_at is not null;

comment on column saga.state is 'the active state as a path, e.g. Suspend.takingPayment';
comment on column saga.value is 'the state as XState writes it';
comment on column saga.version is 'number of recorded transitions';
comment on column saga.timers is 'pending delayed events: [{id, event, dueAt}]';

-- Append-only: one row an event, enough to fold the instance again.
create table saga_history (
  saga        text not null,
  saga_id     uuid not null,
  sequence    integer not null,
  event       text not null,
  body        jsonb not null,
  message_id  uuid,
  from_state  text,
  to_state    text not null,
  sent        jsonb not null,
  recorded_at timestamptz not null default now(),
  primary key (saga, saga_id, sequence)
);

comment on column saga_history.message_id is 'the message that carried the event; null for a timer';
comment on column saga_history.sent is 'messages sent by this transition: [{type, messageId}]';

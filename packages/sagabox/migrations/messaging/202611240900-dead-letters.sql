-- What travels beside a payload, and payloads that are not text: messages put off, and dead letters sent back.
alter table outbox add column headers jsonb, add column content_type text, add column body bytea;

comment on column outbox.content_type is 'null: a MassTransit envelope';
comment on column outbox.body is 'the payload where it is not text; payload is empty then';

-- Messages that came again after a process had not finished them, while they are being handled. A row that is met later
-- tells of a process that died with the message in its hands.
create table unfinished (
  message_id uuid not null,
  endpoint   text not null,
  started    integer not null default 1,
  started_at timestamptz not null default now(),
  primary key (message_id, endpoint)
);

alter table dead_letter rename column created_at to first_seen_at;
alter table dead_letter
  add column kind text not null default 'error' check (kind in ('error', 'skipped')),
  add column message_type text,
  add column correlation_id text,
  add column headers jsonb not null default '{}',
  add column stack text,
  add column attempts jsonb not null default '[]',
  add column last_seen_at timestamptz not null default now(),
  add column seen integer not null default 1,
  add column status text not null default 'waiting' check (status in ('waiting', 'retrying', 'handled')),
  add column retry_id bigint,
  add column fingerprint bytea;
update dead_letter set last_seen_at = first_seen_at, fingerprint = sha256(payload);
-- At least once: the same letter may have been kept twice.
delete from dead_letter using dead_letter as later
where dead_letter.endpoint = later.endpoint and dead_letter.fingerprint = later.fingerprint and dead_letter.id < later.id;
alter table dead_letter alter column fingerprint set not null, add unique (endpoint, fingerprint);

comment on column dead_letter.kind is 'error: could not be handled; skipped: no handler takes its type';
comment on column dead_letter.headers is 'as received from the error or skipped queue';
comment on column dead_letter.attempts is 'every try to handle it: [{at, error}]';
comment on column dead_letter.seen is 'how often it became a dead letter';
comment on column dead_letter.retry_id is 'the group retry that sent it back last';
comment on column dead_letter.fingerprint is 'SHA-256 of the payload: the same letter again is the same row';

-- What operators did with dead letters. A deleted letter lives on here.
create table dead_letter_audit (
  id             bigint generated always as identity primary key,
  dead_letter_id bigint not null,
  action         text not null check (action in ('retry', 'delete')),
  message_id     text,
  details        jsonb not null,
  at             timestamptz not null default now()
);

-- Dead letters sent back as a group, a few at a time.
create table dead_letter_retry (
  id          bigint generated always as identity primary key,
  filter      jsonb not null,
  per_second  integer not null,
  state       text not null default 'running' check (state in ('running', 'done', 'stopped')),
  reason      text,
  started_at  timestamptz not null default now(),
  sent_at     timestamptz,
  ended_at    timestamptz,
  outcome     jsonb
);

comment on column dead_letter_retry.outcome is 'at its end: {sent, handled, failedAgain, underWay}; its letters may belong to a later one by now';

-- Rows leave it in large numbers, all at its old end.
alter table inbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);

create index dead_letter_waiting on dead_letter (id) where status = 'waiting';
create index dead_letter_retried on dead_letter (retry_id) where retry_id is not null;
create index dead_letter_message on dead_letter (message_id);
create index dead_letter_correlation on dead_letter (correlation_id);
create index dead_letter_type on dead_letter (message_type, id);
create index dead_letter_last_seen on dead_letter (last_seen_at);

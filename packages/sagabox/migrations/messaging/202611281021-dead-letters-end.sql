-- States of a letter that only an event ends are given an age, attempts and group retries are bounded,
-- and what is deleted is kept for a while.
alter table dead_letter
  add column retried_at timestamptz,
  add column attempts_left_out integer not null default 0,
  drop constraint dead_letter_status_check,
  add constraint dead_letter_status_check
    check (status in ('waiting', 'retrying', 'handled', 'undone')) not valid;

comment on column dead_letter.retried_at is 'when it was last sent back';
comment on column dead_letter.attempts is 'the first and the last tries to handle it: [{at, error}]';
comment on column dead_letter.attempts_left_out is 'tries in between that were not kept';

alter table dead_letter_audit
  drop constraint dead_letter_audit_action_check,
  add constraint dead_letter_audit_action_check
    check (action in ('retry', 'delete', 'restore', 'undo')) not valid;

alter table dead_letter_retry
  add column position bigint not null default 0,
  add column handled integer not null default 0,
  add column failed_again integer not null default 0;

comment on column dead_letter_retry.position is 'letters up to this id were looked at';
comment on column dead_letter_retry.handled is 'of its letters, those whose retry_id was taken away since';

-- Whole, so that it can be brought back.
create table dead_letter_deleted (
  id                bigint primary key,
  endpoint          text not null,
  message_id        text,
  payload           bytea not null,
  content_type      text,
  exception         text not null,
  reason            text not null,
  first_seen_at     timestamptz not null,
  kind              text not null,
  message_type      text,
  correlation_id    text,
  headers           jsonb not null,
  stack             text,
  attempts          jsonb not null,
  attempts_left_out integer not null,
  last_seen_at      timestamptz not null,
  seen              integer not null,
  status            text not null,
  fingerprint       bytea not null,
  deleted_at        timestamptz not null default now(),
  why               text
);

create index dead_letter_deleted_at on dead_letter_deleted (deleted_at);

-- Business transactions whose effects an operator had undone, as nobody remembers them here.
create table dead_letter_undone (
  endpoint       text not null,
  correlation_id text not null,
  answers        text[] not null,
  reason         text not null,
  at             timestamptz not null default now(),
  primary key (endpoint, correlation_id)
);

comment on column dead_letter_undone.answers is 'types of the letters that need no operator any more';

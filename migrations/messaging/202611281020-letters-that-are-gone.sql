-- Since when a letter is being retried: its message may be gone, and then nothing ever says how it ended.
alter table dead_letter add column retrying_since timestamptz;

comment on column dead_letter.retrying_since is 'null while retrying: sent back by a version that did not record it';

alter table dead_letter_audit drop constraint dead_letter_audit_action_check;
alter table dead_letter_audit add constraint dead_letter_audit_action_check check (action in ('retry', 'delete', 'restore', 'undo')) not valid;

-- What operators deleted, whole, for 30 days.
create table dead_letter_deleted (
  id         bigint primary key,
  letter     jsonb not null,
  payload    bytea not null,
  why        text,
  deleted_at timestamptz not null default now()
);
create index dead_letter_deleted_at on dead_letter_deleted (deleted_at);

comment on column dead_letter_deleted.letter is 'the row of dead_letter but for its payload';

-- A letter whose body a person mended and sent under a new id, and what people note on letters of one cause.
alter table dead_letter_audit
  drop constraint dead_letter_audit_action_check,
  add constraint dead_letter_audit_action_check
    check (action in ('retry', 'delete', 'restore', 'undo', 'edit')) not valid;

create table dead_letter_note (
  group_id    text primary key,
  note        text not null,
  by          text,
  at          timestamptz not null default now(),
  resolved_at timestamptz
);

comment on table dead_letter_note is 'What people note on dead letters of one type and exception';
comment on column dead_letter_note.resolved_at is 'when somebody called it resolved; newer letters have come back';

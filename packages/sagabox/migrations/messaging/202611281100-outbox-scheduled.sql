-- Messages that are sent later, in a table of their own: a million reminders for next month are in
-- nobody's way who reads or counts the outbox.
create table outbox_scheduled (
  token       text primary key,
  id          bigint not null,
  message_id  uuid not null,
  destination text not null,
  required    boolean not null,
  payload     text not null,
  headers     jsonb,
  content_type text,
  due_at      timestamptz not null,
  created_at  timestamptz not null default now()
) with (autovacuum_vacuum_scale_factor = 0.02);

create index outbox_scheduled_due on outbox_scheduled (due_at, id);

-- The outbox's numbers: what was discarded is found by its id, wherever it waited.
do $$ begin
  execute format('alter table outbox_scheduled alter column id set default nextval(%L::regclass)',
    pg_get_serial_sequence('outbox', 'id'));
end $$;

comment on table outbox_scheduled is 'Messages to be sent later; when they are due they move to the outbox';
comment on column outbox_scheduled.content_type is 'null: an envelope of MassTransit';
comment on column outbox_scheduled.token is 'what it is cancelled by; the message''s id when the sender gave none';

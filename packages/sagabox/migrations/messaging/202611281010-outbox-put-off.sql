-- Rows that no queue takes now are told apart from rows that only wait for their time, and may be
-- discarded by a person.
alter table outbox add column put_off text;

comment on column outbox.put_off is
  'failed: this message alone could not be sent; else why its destination takes nothing; null: not put off';

-- What operators discarded, as it would have been sent.
create table outbox_discarded (
  id           bigint generated always as identity primary key,
  outbox_id    bigint not null,
  message_id   uuid not null,
  destination  text not null,
  required     boolean not null,
  payload      text not null,
  body         bytea,
  headers      jsonb,
  content_type text,
  created_at   timestamptz not null,
  attempts     integer not null,
  put_off      text not null,
  last_error   text,
  reason       text not null,
  discarded_at timestamptz not null default now()
);

create index outbox_discarded_at on outbox_discarded (discarded_at);
create index outbox_discarded_outbox on outbox_discarded (outbox_id);

comment on table outbox_discarded is 'Rows of the outbox that a person gave up, kept for 30 days';
comment on column outbox_discarded.reason is 'why, in the words of whoever did it';

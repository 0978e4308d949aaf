-- Who did what: a row is written in the transaction of the action itself.
create table audit (
  id         bigint generated always as identity primary key,
  at         timestamptz not null default now(),
  actor      text not null,
  kind       text not null,
  roles      text[] not null,
  action     text not null,
  target     text not null,
  reason     text,
  outcome    text not null,
  status     integer not null,
  times      integer not null default 1,
  request_id text not null
);

create index audit_at on audit (at, id);
create index audit_actor on audit (actor, at, id);
create index audit_action on audit (action, at, id);
create index audit_target on audit (target, at, id);
create index audit_refused on audit (at) where outcome = 'refused';

comment on table audit is 'What people and programs changed by HTTP, and what was refused to them';
comment on column audit.action is 'the permission that it took, such as letter:retry';
comment on column audit.outcome is 'done; or refused, written by itself since nothing was done';
comment on column audit.times is 'more than 1: so many refusals came too fast to be written one by one';

-- What a person has done to many instances, a few first, and how it goes. Nothing here is on an instance's way.
create table saga_job (
  id                  bigint generated always as identity primary key,
  saga                text not null,
  action              text not null check (action in ('retry', 'cancel')),
  filter              jsonb not null,
  reason              text not null,
  by                  text,
  stop_after_failures integer not null,
  at_least            boolean not null,
  state               text not null default 'running' check (state in ('running', 'done', 'stopped')),
  stopped_why         text,
  started_at          timestamptz not null default now(),
  ended_at            timestamptz
);

create index saga_job_running on saga_job (saga) where state = 'running';

create table saga_job_item (
  job_id   bigint not null references saga_job on delete cascade,
  saga_id  uuid not null,
  outcome  text check (outcome in ('underWay', 'moved', 'failed')),
  state    text,
  error    text,
  at       timestamptz,
  primary key (job_id, saga_id)
);

comment on table saga_job is 'What a person has done to many instances of a saga';
comment on column saga_job.at_least is 'more instances fitted than it has';
comment on column saga_job_item.outcome is 'null: its turn has not come';
comment on column saga_job_item.state is 'of the instance, when it was done to it';

-- Which version of its machine an instance is on, and which made each step. A constant default: no row is rewritten.
alter table saga add machine_version integer not null default 1;
alter table saga_history add machine_version integer not null default 1;

comment on column saga.machine_version is 'version of the machine that moves the instance';
comment on column saga_history.machine_version is 'version of the machine that made the step';

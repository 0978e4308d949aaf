-- What readiness writes and takes back, to see that rows are taken and that there is room for them. Plain storage: each row fills half a page.
create table room_check (filler text not null)
  with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 50);
alter table room_check alter column filler set storage plain;

comment on table room_check is 'always empty for others: written and deleted in one transaction';

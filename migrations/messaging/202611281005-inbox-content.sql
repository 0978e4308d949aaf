-- What a handled message said, as a number: another message under its id is no copy of it. Null: handled before this was kept.
alter table inbox add column content bigint;

comment on column inbox.content is 'hash of type and body: see src/messaging/content.ts';

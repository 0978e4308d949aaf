-- Finds what is older than the inbox keeps. Without a lock on the table, which may be large.
drop index concurrently if exists inbox_handled_at;
create index concurrently inbox_handled_at on inbox (handled_at);

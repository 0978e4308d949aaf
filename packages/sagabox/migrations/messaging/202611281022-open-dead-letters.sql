-- Letters that an operator may still send back, found among millions that have ended. Without a lock on the table.
drop index concurrently if exists dead_letter_open;
create index concurrently dead_letter_open on dead_letter (id) where status in ('waiting', 'retrying');
drop index concurrently if exists dead_letter_waiting;

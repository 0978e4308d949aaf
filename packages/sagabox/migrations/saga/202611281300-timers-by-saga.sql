-- Finds what is due, of one saga: without its name in front the planner, while it has no statistics,
-- preferred the primary key, and read every instance there is. Without a lock on the table.
drop index concurrently if exists saga_due;
create index concurrently saga_due on saga (saga, next_timer_at) where next_timer_at is not null;
drop index concurrently if exists saga_next_timer;

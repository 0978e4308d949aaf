-- Finds the orders that have not ended among millions that have. Without a lock on the table.
drop index concurrently if exists orders_suspend;
create index concurrently orders_suspend on orders (order_id) where status = 'Suspend';
-- Dead entries of what has ended lie where the others are looked for.
alter table orders set (autovacuum_vacuum_scale_factor = 0.02);

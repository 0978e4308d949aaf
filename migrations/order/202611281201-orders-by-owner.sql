-- Without a lock on the table; orders that nobody owns cost nothing.
drop index concurrently if exists orders_by_owner;
create index concurrently orders_by_owner on orders (owner, order_id) where owner is not null;

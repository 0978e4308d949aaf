-- Finds the few that wait for a person among millions. Without a lock on the table.
drop index concurrently if exists payments_refund_refused;
create index concurrently payments_refund_refused on payments (order_id) where status = 'RefundRefused';

-- Finds what is put off by its destination. Rows that go straight through never touch it.
drop index concurrently if exists outbox_put_off;
create index concurrently outbox_put_off on outbox (destination, id) where put_off is not null;

-- Who placed an order, where those who do are known by name: only they, and clerks, see it.
alter table orders add column owner text;
comment on column orders.owner is 'issuer and subject, separated by a space; null: nobody was asked';

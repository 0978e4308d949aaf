-- Every move of stock makes a new version of its product, and the newest is found from the end of the index. By product
-- alone, each look-up walks over all versions that a transaction held open keeps from being removed: after two
-- minutes of full load a move took seven times as long.
alter table products add column version bigint not null default 0;
alter table products drop constraint products_pkey;
alter table products add primary key (product_id, version);
alter table products set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

comment on column products.version is 'grows with every move of stock; one row a product, which PUT /products sees to';

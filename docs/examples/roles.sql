-- Once, by a superuser or the owner of the database; the schema for each service.
create role shop_owner login password 'change-me';
create role shop_app login password 'change-me-too';

create schema order_service authorization shop_owner;
grant usage on schema order_service to shop_app;
alter default privileges for role shop_owner in schema order_service
  grant select, insert, update, delete on tables to shop_app;
alter default privileges for role shop_owner in schema order_service
  grant usage on sequences to shop_app;

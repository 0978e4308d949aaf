-- A key names one restock for ever: asked again, it adds nothing.
create table restocks (
  key        text primary key,
  product_id text not null,
  quantity   integer not null,
  created_at timestamptz not null default now()
);

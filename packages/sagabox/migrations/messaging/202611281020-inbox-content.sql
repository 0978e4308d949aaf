-- What came under an id, so that another message under it is told from a copy.
alter table inbox add column content uuid;

comment on column inbox.content is 'hash of type and body (messaging/content-hash.ts), 16 bytes; null: handled by 0.1';

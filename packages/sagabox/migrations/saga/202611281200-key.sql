-- What an instance's messages call it, where that is a text and no UUID.
alter table saga add key text;

comment on column saga.key is 'the text that saga_id is derived from; null: messages name the instance by saga_id itself';

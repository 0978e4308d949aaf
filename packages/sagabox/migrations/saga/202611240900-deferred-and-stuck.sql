-- Events kept for another state, and what instances that make no progress wait in vain for.
alter table saga
  add deferred    jsonb,
  add stuck_since timestamptz,
  add last_error  jsonb;

-- Holds the stuck alone: an instance that goes its way never touches it.
create index saga_stuck on saga (saga, stuck_since, saga_id) where stuck_since is not null;

comment on column saga.deferred is 'events that came too early: [{event, messageId, conversationId, correlationId, headers}]; null when there are none';
comment on column saga.stuck_since is 'when a deadline first passed without bringing another state';
comment on column saga.last_error is 'the last failure of what the state waits for: {at, message, type}';

alter table saga_history add note text;

comment on column saga_history.note is 'what became of an event that was not handled at once, e.g. ignored: already completed';

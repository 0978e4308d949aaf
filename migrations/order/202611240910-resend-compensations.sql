-- Orders that wait for the answer to a compensation began to wait before it was sent again by a timer: give them one.
update saga
set next_timer_at = now() + interval '30 seconds',
  timers = jsonb_build_array(jsonb_build_object('id', 'xstate.after.resend.order.' || state, 'event', 'xstate.after.resend.order.' || state, 'dueAt', now() + interval '30 seconds'))
where saga = 'order' and state in ('Failed.releasingStock', 'Failed.refunding') and next_timer_at is null;

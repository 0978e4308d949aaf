-- A refund that the gateway refuses for good waits for a person; what a person decides is kept with who, when and why.
-- Not valid: the rows that are there satisfy a narrower check, and need not be read again.
alter table payments drop constraint payments_status_check;
alter table payments add constraint payments_status_check
  check (status in ('Pending', 'Completed', 'Failed', 'Refunding', 'Refunded', 'Cancelled', 'RefundRefused', 'Kept')) not valid;
alter table payments add column settled_by text, add column settled_at timestamptz, add column settled_why text;

comment on column payments.settled_by is 'who ended the payment by hand, or the address from which it was asked';

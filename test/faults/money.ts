import pg from 'pg'
import type { Api } from '../support/api.ts'
import type { Scope } from '../support/program.ts'
import { until } from '../support/until.ts'
import type { Fault } from './fault.ts'
import { whileLocked } from './lock.ts'

/** Forged events that overtake a price, and that come between it and its payment, at least. */
const FORGED = 10
/** Refunds that are refused before anybody settles one. */
const REFUSED = 10
const PERSON_MS = 200

/** What others say of money that was not taken, and money that the gateway does not give back. */
export const moneyFaults: Fault[] = [
  {
    name: 'payments of forged amounts',
    transports: ['memory', 'rabbitmq'],
    shop: { methods: ['pm_card_visa', 'pm_slow', 'pm_card_chargeDeclined', 'pm_lost_response'] },
    async inject({ site, shop, forged }) {
      await shop.answered(10)
      return withClient(site.databaseUrl, async (client) => {
        await client.query(FORGE)
        const reached = async (state: string) =>
          Number((await client.query(REACHED, [state])).rows[0].count)
        const enough = (state: string) =>
          until(`forged payments reach ${state}`, async () => (await reached(state)) >= FORGED)
        // Stock cannot price meanwhile.
        await whileLocked(site.databaseUrl, 'select from stock_service.products for update', () =>
          enough('Suspend.reservingStock')
        )
        await enough('Suspend.takingPayment')
        for (const stop of STOP_FORGING) await client.query(stop)
        const { rows } = await client.query<{ id: string }>(
          'select message_id as id from forged.payments'
        )
        for (const { id } of rows) forged.add(id)
        return rows.length
      })
    },
    rules: {
      'nothing is sold by a forged payment': `
        select saga_id from order_service.saga_history join forged.payments using (message_id)
        where from_state <> 'Completed' and to_state = 'Completed'`,
      'every forged payment is heard': `
        select message_id from forged.payments
        where message_id not in (select message_id from order_service.saga_history where message_id is not null)`
    }
  },
  {
    name: 'refunds refused for good',
    transports: ['memory', 'rabbitmq'],
    site: {
      parts: ['all'],
      env: {
        ORDER_DEADLINE_SECONDS: '1',
        LATE: 'order:StockReleasedEvent:StockReservedEvent,PaymentCompletedEvent'
      }
    },
    shop: { methods: ['pm_refund_refused', 'pm_card_visa'] },
    orders: 30,
    async inject({ scope, site, shop, broken }) {
      await shop.answered(30)
      return withClient(site.databaseUrl, async (client) => {
        const answered = await until('refunds are answered', async () => {
          const { rows } = await client.query<{ waits: boolean }>(ANSWERED)
          return rows.length >= REFUSED && rows
        })
        const ended = answered.filter(({ waits }) => !waits).length
        if (ended > 0) broken.push(`what is refused waits for a person: not so for ${ended}`)
        settleByHand(scope, site.databaseUrl, await site.api())
        return answered.length
      })
    },
    rules: {
      'the order hears what a person settled': `
        select order_id from payment_service.payments p where settled_why is not null and not exists (
          select from order_service.saga_history where saga_id = p.order_id and event = 'PaymentRefundedEvent'
            and (body ->> 'amount')::bigint = p.refunded_amount and body ->> 'reason' = p.settled_why)`
    }
  }
]

/** With the order one that overtakes its price, and with the payment one of another amount or currency. */
const FORGE = `
  create schema forged;
  create table forged.payments (message_id uuid primary key, order_id uuid not null);
  create function forged.payload(id uuid, order_id uuid, amount bigint, currency text) returns text language sql as $$
    insert into forged.payments values (id, order_id);
    select json_build_object('messageId', id, 'correlationId', order_id,
      'messageType', json_build_array('urn:message:Contracts:PaymentCompletedEvent'),
      'message', json_build_object('orderId', order_id, 'amount', amount, 'currency', currency))::text
  $$;
  create function forged.kind(order_id uuid) returns integer language sql as 'select abs(hashtext(order_id::text) % 4)';
  create function forged.early() returns trigger language plpgsql as $$
    declare id uuid := gen_random_uuid();
    begin
      if forged.kind(new.order_id) = 0 then
        insert into order_service.outbox (message_id, destination, required, payload)
          values (id, 'order', true, forged.payload(id, new.order_id, 1, 'EUR'));
      end if;
      return new;
    end $$;
  create function forged.late() returns trigger language plpgsql as $$
    declare id uuid := gen_random_uuid();
    begin
      if forged.kind(new.order_id) in (1, 2) then
        insert into payment_service.outbox (message_id, destination, required, payload)
          values (id, 'order', true, case forged.kind(new.order_id)
            when 1 then forged.payload(id, new.order_id, new.amount - 1, new.currency)
            else forged.payload(id, new.order_id, new.amount, 'XXX') end);
      end if;
      return new;
    end $$;
  create trigger forge after insert on order_service.orders for each row execute function forged.early();
  create trigger forge after insert on payment_service.payments for each row execute function forged.late()`

const STOP_FORGING = [
  'drop trigger forge on order_service.orders',
  'drop trigger forge on payment_service.payments'
]

const REACHED = `
  select count(distinct message_id) from order_service.saga_history join forged.payments using (message_id)
  where from_state = $1`

/** Orders whose refund the gateway refuses, and whether they wait for a person. */
const ANSWERED = `
  select p.status = 'RefundRefused' and s.state = 'Failed.refunding' as waits
  from payment_service.payments p join order_service.saga s on s.saga_id = p.order_id
  where p.payment_method = 'pm_refund_refused' and p.status not in ('Pending', 'Completed', 'Refunding')`

/** A person looks every now and then, until the run is over: by turns the money went back, all or a part was kept. */
function settleByHand(scope: Scope, databaseUrl: string, api: Api): void {
  let settled = 0
  const look = () =>
    withClient(databaseUrl, async (client) => {
      const { rows } = await client.query<{ id: string; amount: number }>(
        `select order_id as id, amount::integer from payment_service.payments where status = 'RefundRefused'`
      )
      for (const { id, amount } of rows) {
        const kept = [0, amount, 1][settled % 3]!
        const end = kept > 0 ? { outcome: 'kept', amount: kept } : { outcome: 'refunded', amount }
        const { status } = await api.call('POST', `/payments/${id}/settle`, {
          ...end,
          reason: 'Disputed'
        })
        if (status === 200) settled++
      }
    })
  // What cannot be settled now is looked at again; what never can shows as an order that never ends.
  const timer = setInterval(() => void look().catch(() => {}), PERSON_MS)
  scope.teardown(() => clearInterval(timer))
}

async function withClient<R>(
  databaseUrl: string,
  work: (client: pg.Client) => Promise<R>
): Promise<R> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    return await work(client)
  } finally {
    await client.end()
  }
}

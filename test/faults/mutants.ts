import type { Scope } from '../support/program.ts'
import type { Bank } from './bank.ts'
import { play } from './fault.ts'
import { COMES_TO_REST } from './oracle.ts'
import { faultNamed } from './faults.ts'
import type { Edit } from '../support/edits.ts'

/** How long what is under way may take, ms: longer than the claim of a payment. */
const PATIENCE = 20_000

/**
 * The product with one of its promises broken on purpose, and the fault and rule that must tell.
 */
export interface Mutant {
  name: string
  edits: readonly Edit[]
  /** Name of the fault that is played. */
  fault: string
  transport: 'memory' | 'rabbitmq'
  /** One of these rules must not hold. */
  caughtBy: readonly string[]
  /** How long to wait for what never comes, ms. */
  patience?: number
}

/** Nothing is on its way any more, and yet an order has not ended. */
const LOST = ['every order ended']

export const mutants: Mutant[] = [
  {
    name: 'acknowledges before the commit',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/endpoint/lane.js',
        from: 'const handled = ',
        to: 'for (const one of batch) endings.end(one).ack()\n const handled = '
      },
      {
        file: 'packages/sagabox/dist/messaging/endpoint/lane.js',
        from: 'for (const one of batch)\n                if (!one.ended)\n                    endings.end(one).ack();\n            if (handled.length > 0)',
        to: 'if (handled.length > 0)'
      }
    ],
    fault: 'killed in the middle of a batch',
    transport: 'rabbitmq',
    caughtBy: LOST
  },
  {
    name: 'has no inbox',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/inbox/inbox.js',
        from: "new Set(row.ids?.split(' '))",
        to: 'new Set(ids)'
      },
      {
        file: 'packages/sagabox/dist/messaging/inbox/inbox.js',
        from: 'void write(tx, RECORD_AS_NEW, [ids, endpoint, messages.map(contentHash)])',
        to: 'void ids'
      }
    ],
    fault: 'every message three times, to two copies',
    transport: 'rabbitmq',
    caughtBy: ['each event moved its saga once']
  },
  {
    name: 'publishes without mandatory',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/rabbitmq/publisher.js',
        from: 'this.#startFor(destination, required)',
        to: 'this.#startFor(destination, false)'
      },
      // Both ways: the probe holds one to the other.
      {
        file: 'packages/sagabox/dist/messaging/rabbitmq/publisher.js',
        from: 'mandatory: required',
        to: 'mandatory: false'
      }
    ],
    fault: 'a queue that gets nothing for 1 s',
    transport: 'rabbitmq',
    caughtBy: LOST
  },
  {
    name: 'deletes before the confirm',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/outbox/sender.js',
        from: 'return this.#options.transport.publish(',
        to: 'this.#settled.push(id); this.#forgetSoon(); return this.#options.transport.publish('
      },
      {
        file: 'packages/sagabox/dist/messaging/outbox/sender.js',
        from: "if (outcome === 'accepted') {\n                this.#settled.push(id);",
        to: "if (outcome === 'accepted') {"
      }
    ],
    fault: 'killed in the middle of a batch',
    transport: 'memory',
    caughtBy: LOST
  },
  {
    name: 'reads stock, then writes it',
    edits: [
      {
        file: 'dist/stock/products.js',
        from: 'order by version desc limit 1 for update)',
        to: 'order by version desc limit 1)'
      },
      {
        file: 'dist/stock/products.js',
        from: 'on_hand = on_hand + moved.quantity,',
        to: 'on_hand = moved.on_hand,'
      },
      {
        file: 'dist/stock/products.js',
        from: 'from unnest($1::tid[], $2::bigint[]) as moved (ctid, quantity)',
        to: 'from unnest($1::text[], $2::bigint[], $3::bigint[]) as moved (product_id, quantity, on_hand)'
      },
      {
        file: 'dist/stock/products.js',
        from: 'where products.ctid = moved.ctid and products.on_hand + moved.quantity >= 0',
        to: 'where products.product_id = moved.product_id'
      },
      {
        file: 'dist/stock/products.js',
        from: '[[...moves.keys()].map((productId) => shelves.get(productId).ctid), [...moves.values()]]',
        to: '[[...moves.keys()], [...moves.values()], [...moves.keys()].map((productId) => shelves.get(productId).onHand)]'
      }
    ],
    fault: 'few products, many buyers, two copies',
    transport: 'rabbitmq',
    caughtBy: ['stock conserved']
  },
  {
    name: 'gives a message a new id whenever it is published',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/outbox/sender.js',
        from: 'payload: body ?? payload,',
        to: 'payload: String(body ?? payload).replace(/"messageId":"[^"]+"/, \'"messageId":"\' + crypto.randomUUID() + \'"\'),'
      }
    ],
    fault: 'killed after a confirm, before the delete',
    transport: 'rabbitmq',
    caughtBy: ['each event moved its saga once']
  },
  {
    name: 'locks products in any order',
    edits: [
      {
        file: 'dist/stock/products.js',
        from: '[...new Set(productIds)].toSorted()',
        to: '[...new Set(productIds)]'
      }
    ],
    fault: 'few products, many buyers, two copies',
    transport: 'rabbitmq',
    caughtBy: ['no deadlocks']
  },
  {
    name: 'reads its outbox from the last id on',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/outbox/relay.js',
        from: "all ? '0' : lowest, most",
        to: 'lowest, most'
      }
    ],
    fault: 'a smaller id that commits later',
    transport: 'rabbitmq',
    caughtBy: ['outboxes empty'],
    patience: 5000
  },
  {
    name: 'leaves no tombstone for a reservation',
    edits: [
      {
        file: 'dist/stock/release.js',
        from: 'run(tx, INSERT_TOMBSTONES, [orderIds]), ',
        to: 'undefined, '
      }
    ],
    fault: 'a release that overtakes its order',
    transport: 'memory',
    caughtBy: ['what was released first is never reserved']
  },
  {
    name: 'ignores what comes after the deadline',
    edits: [
      {
        file: 'dist/saga/machine.js',
        from: "StockReservedEvent: { target: 'releasingStock', actions: 'expectMoney' }",
        to: "StockReservedEvent: ignore('late')"
      },
      {
        file: 'dist/saga/machine.js',
        from: "PaymentCompletedEvent: { target: 'refunding', actions: 'expectMoney' }",
        to: "PaymentCompletedEvent: ignore('late')"
      }
    ],
    fault: 'events that come after the deadline',
    transport: 'memory',
    caughtBy: ['Failed: nothing held, no money kept']
  },
  {
    name: 'acknowledges what it gives back as it stops',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/endpoint/lane.js',
        from: 'for (const { delivery } of await this.#main.stop())\n            delivery.requeue();',
        to: 'for (const { delivery } of await this.#main.stop())\n            delivery.ack();'
      }
    ],
    fault: 'asked to stop while messages wait behind a batch',
    transport: 'rabbitmq',
    caughtBy: LOST
  },
  {
    name: 'throws away what it cannot read',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/endpoint/endpoint.js',
        from: 'return this.#endings.buryUnread(delivery, error);',
        to: 'return delivery.ack();'
      }
    ],
    fault: 'killed in the middle of a batch',
    transport: 'memory',
    caughtBy: ['dead letters: the poison, each once']
  },
  {
    name: 'answers before the commit',
    edits: [
      {
        file: 'dist/order/place-orders.js',
        from: 'run(tx, NOW, [])]);',
        to: 'run(tx, NOW, [])]); for (const waiting of batch) if (!used.has(waiting)) waiting.resolve({ orderId: waiting.orderId, replayed: false });'
      }
    ],
    fault: 'killed before the commit of POST /orders',
    transport: 'memory',
    caughtBy: ['what was answered is kept']
  },
  {
    name: 'forgets idempotency keys',
    edits: [
      { file: 'dist/order/place-orders.js', from: 'if (claimants.size === 0)', to: 'if (true)' }
    ],
    fault: 'killed after the commit of POST /orders, before its answer',
    transport: 'memory',
    caughtBy: ['one order a key']
  },
  {
    name: 'asks the gateway under another key each time',
    edits: [
      {
        file: 'dist/payment/stripe/gateway.js',
        from: '{ idempotencyKey: key }',
        to: '{ idempotencyKey: crypto.randomUUID() }'
      }
    ],
    fault: 'every message twice in one batch',
    transport: 'memory',
    caughtBy: ['the gateway took money once, for what was sold'],
    // A payment whose answer is lost is asked for again and again.
    patience: 5000
  },
  {
    name: 'sells for any amount',
    edits: [
      {
        file: 'dist/saga/machine.js',
        from: "event.type === 'PaymentCompletedEvent' && event.amount === total && event.currency === currency",
        to: "event.type === 'PaymentCompletedEvent'"
      }
    ],
    fault: 'payments of forged amounts',
    transport: 'memory',
    caughtBy: ['nothing is sold by a forged payment']
  },
  {
    name: 'takes a refused refund for a refund',
    edits: [
      {
        file: 'dist/payment/cashier.js',
        from: "return { status: 'RefundRefused', failureReason: reasonOf(answer.reason), lastError: answer.detail, messages: [] }",
        to: "return { status: 'Refunded', refunded: amount, messages: [PaymentRefundedEvent({ orderId, amount }, cause)] }"
      }
    ],
    fault: 'refunds refused for good',
    transport: 'memory',
    caughtBy: ['the gateway took money once, for what was sold']
  },
  {
    name: 'takes an outage for a message’s fault',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/inbox/retry.js',
        from: 'if (!(error instanceof DatabaseAway) || ',
        to: 'if (true || '
      }
    ],
    fault: 'logins refused for 8 s',
    transport: 'rabbitmq',
    caughtBy: ['dead letters: the poison, each once']
  },
  {
    name: 'waits for a lock with all that stand behind',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/endpoint/batch-judge.js',
        from: "timedOut();\n            return 'split';",
        to: 'timedOut();\n            return { retryAfterMs: 500 };'
      }
    ],
    fault: 'somebody locks a product for 20 s',
    transport: 'memory',
    caughtBy: ['orders for other products go on']
  },
  {
    name: 'takes a refusal for a confirm',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/rabbitmq/transport.js',
        from: "resolve('refused')",
        to: "resolve('accepted')"
      }
    ],
    fault: 'one queue is full, and its consumer down',
    transport: 'rabbitmq',
    caughtBy: LOST
  },
  {
    name: 'waits for ever for a letter whose message is gone',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/dead-letters/list.js',
        from: "interval '${LOST_AFTER_MINUTES} minutes')`",
        to: "interval '1000000 minutes')`"
      }
    ],
    fault: 'a letter whose message is gone',
    transport: 'memory',
    caughtBy: ['a letter that was lost can be sent back']
  },
  {
    name: 'takes back sessions that are unfit',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/postgres/session-pool.js',
        from: 'if (client.unfit !== undefined)',
        to: 'if (false)'
      }
    ],
    fault: 'a switchover that keeps old sessions at the old server',
    transport: 'memory',
    caughtBy: ['no session of the old server is used again']
  },
  {
    name: 'sends before all who take it have been seen',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/rabbitmq/transport.js',
        from: 'if (this.#publisher && this.awaited.before(message.destination).length > 0)',
        to: 'if (false)'
      }
    ],
    fault: 'an endpoint that has never been there until now',
    transport: 'rabbitmq',
    caughtBy: LOST
  },
  {
    name: 'takes another message under a known id for a copy',
    edits: [
      {
        file: 'packages/sagabox/dist/messaging/inbox/inbox.js',
        from: 'if (content !== null && content !== found)',
        to: 'if (false)'
      }
    ],
    fault: 'other messages under ids that were handled',
    transport: 'memory',
    caughtBy: ['dead letters: the poison, each once']
  }
]

export interface Caught {
  /** The rule that told, as it was broken; undefined when none of those that must tell did. */
  by: string | undefined
  /** What else was broken. */
  broken: readonly string[]
  seconds: number
}

/** Plays the mutant's fault on the mutant. */
export async function hunt(
  scope: Scope,
  bank: Bank,
  { edits, fault, transport, caughtBy, patience = PATIENCE }: Mutant,
  random: () => number
): Promise<Caught> {
  const { broken, seconds } = await play(scope, faultNamed(fault), {
    bank,
    transport,
    edits,
    random,
    patience,
    short: true
  })
  const by = broken.find((rule) => caughtBy.some((name) => rule.startsWith(`${name}:`)))
  // What is only late has not been lost.
  const late = caughtBy === LOST && broken.some((rule) => rule.startsWith(`${COMES_TO_REST}:`))
  return { by: late ? undefined : by, broken, seconds }
}

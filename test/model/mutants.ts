import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { applyEdits, type Edit } from '../support/edits.ts'
import { copyProduct } from '../support/copy-of-product.ts'

/** The product with one of its promises broken on purpose. */
export interface Mutant {
  name: string
  edits: readonly Edit[]
}

export const mutants: readonly Mutant[] = [
  {
    name: 'has no inbox',
    edits: [
      {
        file: 'packages/sagabox/src/messaging/inbox/inbox.ts',
        from: "new Set(row!.ids?.split(' '))",
        to: "new Set([...ids, ...(row!.ids?.split(' ') ?? [])])"
      },
      {
        file: 'packages/sagabox/src/messaging/inbox/inbox.ts',
        from: 'void write(tx, RECORD_AS_NEW, [ids, endpoint, messages.map(contentHash)])',
        to: ''
      }
    ]
  },
  {
    name: 'acknowledges before the commit',
    edits: [
      {
        file: 'packages/sagabox/src/messaging/endpoint/lane.ts',
        from: '    const handled =',
        to: '    for (const one of batch) one.delivery.ack()\n    const handled ='
      },
      {
        file: 'packages/sagabox/src/messaging/endpoint/lane.ts',
        from: 'if (!one.ended) endings.end(one).ack()',
        to: 'if (!one.ended) endings.end(one)'
      }
    ]
  },
  {
    name: 'deletes from the outbox before the message has arrived',
    edits: [
      {
        file: 'packages/sagabox/src/messaging/outbox/sender.ts',
        from: 'return this.#options.transport.publish(',
        to: 'this.#settled.push(id)\n    this.#forgetSoon()\n    return this.#options.transport.publish('
      }
    ]
  },
  {
    name: 'forgets idempotency keys',
    edits: [
      {
        file: 'src/order/place-orders.ts',
        from: 'if (claimants.size === 0) return used',
        to: 'if (claimants.size >= 0) return used'
      }
    ]
  },
  {
    name: 'answers before the commit',
    edits: [
      {
        file: 'src/order/place-orders.ts',
        from: 'run<{ now: Date }>(tx, NOW, [])])',
        to: 'run<{ now: Date }>(tx, NOW, [])])\n      for (const waiting of batch) if (!used.has(waiting)) waiting.resolve({ orderId: waiting.orderId, replayed: false })'
      }
    ]
  },
  {
    // Either alone is made up for by the other.
    name: 'ignores what comes after the deadline',
    edits: [
      {
        file: 'src/saga/machine.ts',
        from: "StockReservedEvent: { target: 'releasingStock', actions: 'expectMoney' }",
        to: "StockReservedEvent: ignore('late')"
      },
      {
        file: 'src/saga/machine.ts',
        from: "PaymentCompletedEvent: { target: 'refunding', actions: 'expectMoney' }",
        to: "PaymentCompletedEvent: ignore('late')"
      }
    ]
  },
  {
    name: 'gives no stock back when payment fails',
    edits: [
      {
        file: 'src/saga/machine.ts',
        from: "PaymentFailedEvent: { target: 'Failed.releasingStock', actions: 'setReason' }",
        to: "PaymentFailedEvent: { target: 'Failed.settled', actions: 'setReason' }"
      }
    ]
  },
  {
    name: 'does not wait for a refund',
    edits: [
      {
        file: 'src/saga/machine.ts',
        from: "StockReleasedEvent: [{ guard: 'mayBePaid', target: 'refunding' }, { target: 'settled' }]",
        to: "StockReleasedEvent: [{ target: 'settled' }]"
      }
    ]
  },
  {
    // Either alone is made up for by the other.
    name: 'leaves no tombstone for a reservation, and ignores a late one',
    edits: [
      {
        file: 'src/stock/release.ts',
        from: 'run(tx, INSERT_TOMBSTONES, [orderIds])',
        to: 'undefined'
      },
      {
        file: 'src/saga/machine.ts',
        from: "StockReservedEvent: { target: 'releasingStock', actions: 'expectMoney' }",
        to: "StockReservedEvent: ignore('late')"
      }
    ]
  },
  {
    name: 'leaves no tombstone for a payment',
    edits: [
      {
        file: 'src/payment/refund.ts',
        from: '  await run(tx, INSERT_TOMBSTONES, [orderIds])\n',
        to: '  if (orderIds.length === 0) await run(tx, INSERT_TOMBSTONES, [orderIds])\n'
      }
    ]
  },
  {
    name: 'gives stock back as often as it is asked',
    edits: [
      {
        file: 'src/stock/release.ts',
        from: "where order_id = any($1::uuid[]) and status = 'Reserved' returning",
        to: 'where order_id = any($1::uuid[]) returning'
      }
    ]
  },
  {
    name: 'reserves as often as it is asked',
    edits: [
      {
        file: 'src/stock/handler.ts',
        from: '.filter(({ body }) => !answers.has(orderKey(body)))',
        to: ''
      }
    ]
  },
  {
    name: 'asks the gateway under another key each time',
    edits: [
      {
        file: 'src/payment/cashier.ts',
        from: 'const request = { key, amount',
        to: 'const request = { key: `${key}/${attempts}`, amount'
      }
    ]
  },
  {
    name: 'asks the gateway once',
    edits: [
      {
        file: 'src/payment/cashier.ts',
        from: 'retryMs: Math.round(backoff(attempts, RETRY_MIN_MS, RETRY_MAX_MS)), messages',
        to: 'messages'
      }
    ]
  },
  {
    name: 'forgets what a dead process asked the gateway',
    edits: [
      {
        file: 'src/payment/take.ts',
        from: "case when $6 then clock_timestamp() + interval '${CLAIM_SECONDS} seconds' else now() end",
        to: 'case when $6 then null::timestamptz else now() end'
      }
    ]
  },
  {
    name: 'gives up when another transaction was in the way',
    edits: [
      {
        file: 'packages/sagabox/src/messaging/postgres/retry-conflicts.ts',
        from: 'if (!isConflict(error) || attempt === MOST_TRIES) throw error',
        to: 'if (isConflict(error) || attempt === MOST_TRIES) throw error'
      }
    ]
  },
  {
    name: 'cancels an order that is completed',
    edits: [
      {
        file: 'src/saga/machine.ts',
        from: "[CANCEL_ORDER]: ignore('it is completed')",
        to: "[CANCEL_ORDER]: { target: 'Failed.settled', actions: 'setCancelled' }"
      }
    ]
  }
]

export interface Caught {
  name: string
  /** All that the search printed. */
  told: string
  /** The run that went wrong first; undefined: none did. */
  run: number | undefined
  seconds: number
}

/** Searches a copy of the sources in which the mutant's texts are exchanged. */
export async function hunt({ name, edits }: Mutant, runs: number, seed: number): Promise<Caught> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-mutant-'))
  try {
    await copyProduct(folder, ['src', 'test', 'scripts', 'packages/sagabox/src'])
    await applyEdits(folder, edits)
    const began = Date.now()
    const told = await new Promise<string>((resolve) =>
      execFile(
        process.execPath,
        [
          '--conditions=source',
          '--import=tsx',
          'scripts/test-model.ts',
          '--runs',
          String(runs),
          '--seed',
          String(seed)
        ],
        { cwd: folder },
        (_, stdout, stderr) => resolve(stdout + stderr)
      )
    )
    const run = /^Run (\d+) of seed/m.exec(told)?.[1]
    return {
      name,
      told,
      run: run === undefined ? undefined : Number(run),
      seconds: (Date.now() - began) / 1000
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

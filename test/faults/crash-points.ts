import type { Fault } from './fault.ts'

const BOTH = ['memory', 'rabbitmq'] as const

/** Processes that kill themselves by SIGKILL at a point named in failpoints.mjs. */
interface CrashPoint {
  name: string
  /** One after another, all services in one process. */
  together: string[]
  /** In a process of each. */
  apart: Partial<Record<'order' | 'stock' | 'payment', string[]>>
}

function crashPoint({ name, together, apart }: CrashPoint, more: Partial<Fault> = {}): Fault {
  return {
    name: `killed ${name}`,
    transports: BOTH,
    failpoints: { all: together, ...apart },
    ...more
  }
}

const points: CrashPoint[] = [
  // First: the claim of a payment that nobody records any more runs out after 15 s.
  {
    name: 'between a charge and its record',
    together: ['charge-record:2'],
    apart: { payment: ['charge-record:2', 'charge-record:5'] }
  },
  {
    name: 'after a commit, before its acknowledgement',
    together: ['commit-ack:2', 'commit-ack:70'],
    apart: {
      order: ['commit-ack:3'],
      stock: ['commit-ack:1', 'commit-ack:20'],
      payment: ['commit-ack:5']
    }
  },
  {
    name: 'after a publish, before its confirm',
    together: ['publish-confirm:1', 'publish-confirm:40'],
    apart: {
      order: ['publish-confirm:4'],
      stock: ['publish-confirm:9'],
      payment: ['publish-confirm:2']
    }
  },
  {
    name: 'after a confirm, before the delete',
    together: ['confirm-delete:1', 'confirm-delete:40'],
    apart: {
      order: ['confirm-delete:6'],
      stock: ['confirm-delete:3'],
      payment: ['confirm-delete:8']
    }
  },
  {
    name: 'in the middle of a batch',
    together: ['mid-batch:1', 'mid-batch:12'],
    apart: { order: ['mid-batch:3'], stock: ['mid-batch:2'], payment: ['mid-batch:2'] }
  },
  {
    name: 'in a migration',
    together: ['migration:1', 'migration:4'],
    apart: {
      order: ['migration:2'],
      stock: ['migration:1', 'migration:1'],
      payment: ['migration:2']
    }
  },
  {
    name: 'before the commit of POST /orders',
    together: ['order-commit:2', 'order-commit:5'],
    apart: { order: ['order-commit:2', 'order-commit:5'] }
  },
  {
    name: 'after the commit of POST /orders, before its answer',
    together: ['order-answer:2', 'order-answer:5'],
    apart: { order: ['order-answer:2', 'order-answer:5'] }
  }
]

/** Each point by itself. */
export const crashPoints: Fault[] = [
  ...points.map((point) => crashPoint(point)),
  crashPoint(
    {
      name: 'in a timer’s transaction',
      together: ['timer-commit:1', 'timer-answer:2'],
      apart: { order: ['timer-commit:1', 'timer-answer:2'] }
    },
    {
      site: { env: { ORDER_DEADLINE_SECONDS: '2' } },
      shop: { methods: ['pm_card_visa', 'pm_slow'] },
      orders: 40
    }
  )
]

/**
 * The short version, in one run: every point together, and apart those that have to do with the
 * broker.
 */
export const allCrashPoints: Fault = {
  name: 'killed at every point, in turn',
  transports: BOTH,
  failpoints: {
    all: [
      'migration:2',
      'charge-record:2',
      'commit-ack:2',
      // Further on than the first: a message that is in hand at five deaths is taken for deadly.
      'publish-confirm:8',
      'confirm-delete:8',
      'mid-batch:4',
      'order-commit:2',
      'order-answer:2'
    ],
    order: ['publish-confirm:4'],
    stock: ['commit-ack:1', 'mid-batch:2'],
    payment: ['charge-record:2', 'confirm-delete:3']
  }
}

import type { Fault } from './fault.ts'

const BOTH = ['memory', 'rabbitmq'] as const

/** Processes that kill themselves by SIGKILL at a point named in failpoints.mjs. */
interface CrashPoint {
  name: string
  /** One after another in one process. */
  memory: string[]
  /** In each service's own. */
  rabbitmq: Partial<Record<'order' | 'stock' | 'payment', string[]>>
}

function crashPoint({ name, memory, rabbitmq }: CrashPoint, more: Partial<Fault> = {}): Fault {
  return { name: `killed ${name}`, transports: BOTH, failpoints: (transport) => (transport === 'memory' ? { all: memory } : rabbitmq), ...more }
}

const points: CrashPoint[] = [
  // First: the claim of a payment that nobody records any more runs out after 15 s.
  { name: 'between a charge and its record', memory: ['charge-record:2'], rabbitmq: { payment: ['charge-record:2', 'charge-record:5'] } },
  {
    name: 'after a commit, before its acknowledgement',
    memory: ['commit-ack:2', 'commit-ack:70'],
    rabbitmq: { order: ['commit-ack:3'], stock: ['commit-ack:1', 'commit-ack:20'], payment: ['commit-ack:5'] }
  },
  {
    name: 'after a publish, before its confirm',
    memory: ['publish-confirm:1', 'publish-confirm:40'],
    rabbitmq: { order: ['publish-confirm:4'], stock: ['publish-confirm:9'], payment: ['publish-confirm:2'] }
  },
  {
    name: 'after a confirm, before the delete',
    memory: ['confirm-delete:1', 'confirm-delete:40'],
    rabbitmq: { order: ['confirm-delete:6'], stock: ['confirm-delete:3'], payment: ['confirm-delete:8'] }
  },
  { name: 'in the middle of a batch', memory: ['mid-batch:1', 'mid-batch:12'], rabbitmq: { order: ['mid-batch:3'], stock: ['mid-batch:2'], payment: ['mid-batch:2'] } },
  { name: 'in a migration', memory: ['migration:1', 'migration:4'], rabbitmq: { order: ['migration:2'], stock: ['migration:1', 'migration:1'], payment: ['migration:2'] } },
  { name: 'before the commit of POST /orders', memory: ['order-commit:2', 'order-commit:5'], rabbitmq: { order: ['order-commit:2', 'order-commit:5'] } },
  { name: 'after the commit of POST /orders, before its answer', memory: ['order-answer:2', 'order-answer:5'], rabbitmq: { order: ['order-answer:2', 'order-answer:5'] } }
]

/** Each point by itself. */
export const crashPoints: Fault[] = [
  ...points.map((point) => crashPoint(point)),
  crashPoint(
    { name: 'in a timer’s transaction', memory: ['timer-commit:1', 'timer-answer:2'], rabbitmq: { order: ['timer-commit:1', 'timer-answer:2'] } },
    { site: { env: { ORDER_DEADLINE_SECONDS: '2' } }, shop: { methods: ['pm_card_visa', 'pm_slow'] }, orders: 40 }
  )
]

/** All points in one run, each once: the short version. */
export const allCrashPoints: Fault = {
  name: 'killed at every point, in turn',
  transports: BOTH,
  failpoints: (transport): Record<string, string[]> =>
    transport === 'memory'
      ? { all: ['migration:2', 'charge-record:2', 'commit-ack:2', 'publish-confirm:1', 'confirm-delete:1', 'mid-batch:1', 'order-commit:2', 'order-answer:2'] }
      : { order: ['order-commit:2', 'order-answer:2', 'confirm-delete:6'], stock: ['migration:1', 'commit-ack:1', 'publish-confirm:9'], payment: ['charge-record:2', 'mid-batch:2'] }
}

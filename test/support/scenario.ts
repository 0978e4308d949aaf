import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { OrderRequest } from './api.ts'

/** One step of a scenario played on the whole system. */
export type ScenarioStep =
  /** Places orders, several at the same moment. */
  | { place: string[] }
  /** Keeps messages of a type from an endpoint; `release` lets them go. */
  | { hold: string; at: string }
  | { release: string; at: string }
  /**
   * Waits until the order's saga is in a state or keeps an event for later, or its payment or
   * reservation a status.
   */
  | { await: string; state: string }
  | { await: string; deferred: string }
  | { await: string; payment: string }
  | { await: string; reservation: string }
  /** Makes the order's deadline pass now. */
  | { deadline: string }
  /**
   * Asks to cancel the order, that many times at once (once when not given); every answer has the
   * status.
   */
  | { cancel: string; times?: number; status: number }
  /** Sends a message that no service sent; `body` is what it says beside the order's id. */
  | { send: string; to: string; order: string; body?: Record<string, unknown> }
  /**
   * Sends every message so far again, as a redelivery (same ids) or as another message (new ids).
   */
  | { repeat: 'everything'; times: number; ids: 'same' | 'new' }

export interface ExpectedStep {
  event: string
  to: string
  sent?: string[]
  /** It was deferred, and comes again with the step before. */
  earlier?: true
  /** What the event says that the services would not. */
  body?: Record<string, unknown>
}

export interface ExpectedOrder {
  status: 'Completed' | 'Failed'
  failureReason?: string
  /** The saga's path, its whole history. */
  history: ExpectedStep[]
  /** After the history, events may follow that change nothing. */
  thenOnlyIgnored?: boolean
  reservation: string
  payment?: { status: string; refundedAmount?: number }
}

export interface Scenario {
  title: string
  products: Record<string, { onHand: number; unitPrice: number }>
  orders: Record<string, OrderRequest>
  steps: ScenarioStep[]
  expect: {
    /** By name; of orders that race, by outcome: which of them gets which is open. */
    orders: Record<string, ExpectedOrder>
    race?: boolean
    products: Record<string, { onHand: number; reserved: number }>
  }
}

const FOLDER = new URL('../scenarios/', import.meta.url)

/** All scenarios of test/scenarios, by file name. */
export function scenarios(): [file: string, scenario: Scenario][] {
  return readdirSync(fileURLToPath(FOLDER))
    .filter((file) => file.endsWith('.json'))
    .toSorted()
    .map((file) => [file, JSON.parse(readFileSync(new URL(file, FOLDER), 'utf8')) as Scenario])
}

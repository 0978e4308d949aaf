import { median } from '../compare.ts'
import type { Contender } from '../contenders.ts'
import { CONTENDERS } from '../contenders.ts'
import type { Load } from './site.ts'

export type GrowthContender = 'embedded' | 'rabbitmq-1' | 'rabbitmq-3'

export interface GrowthResult {
  name: string
  contender: GrowthContender
  ordersPerSecond: number
  /** CPU ms an order. */
  cpuMsPerOrder: { node: number; postgres: number; rabbitmq: number }
  /** Orders a second over those of the base case of the same scenario and run. */
  ratio?: number
  detail?: string
  broken: string[]
}

export type Report = (line: GrowthResult) => void

/** Rounds of scenarios whose cases take turns. */
export const ROUNDS = 3

export function contenderNamed(name: GrowthContender): Contender {
  const found = CONTENDERS.find((one) => one.name === name)
  if (!found) throw new Error(`No contender ${name}`)
  return found
}

/** A number of orders at a scale: never so few that starting and ending the load is most of it. */
export function scaledOrders(orders: number, scale: number): number {
  return Math.max(200, Math.round(orders * scale))
}

/** Something to look at while minutes pass. */
export function progress(text: string): void {
  console.error(`growth ${new Date().toISOString().slice(11, 19)} ${text}`)
}

/** Medians of a case's rounds. */
export function medians(
  rounds: readonly Load[]
): Pick<GrowthResult, 'ordersPerSecond' | 'cpuMsPerOrder'> {
  const of = (figure: (load: Load) => number) => median(rounds.map(figure))
  return {
    ordersPerSecond: of((load) => load.ordersPerSecond),
    cpuMsPerOrder: {
      node: of(({ cpuMsPerOrder }) => cpuMsPerOrder.node),
      postgres: of(({ cpuMsPerOrder }) => cpuMsPerOrder.postgres),
      rabbitmq: of(({ cpuMsPerOrder }) => cpuMsPerOrder.rabbitmq)
    }
  }
}

/**
 * The median of each round's own ratio: a slow minute of the machine slows both cases of its round.
 */
export function ratioTo(base: readonly Load[], rounds: readonly Load[]): number {
  return median(
    rounds.map(({ ordersPerSecond }, round) => ordersPerSecond / base[round]!.ordersPerSecond)
  )
}

/** Details that there are, as one. */
export function details(...parts: (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined).join('; ')
}

export function describeRounds(rounds: readonly Load[]): string {
  return `rounds ${rounds.map(({ ordersPerSecond }) => ordersPerSecond.toFixed(0)).join(', ')}`
}

export function thousands(count: number): string {
  return Math.round(count).toLocaleString('en-US')
}

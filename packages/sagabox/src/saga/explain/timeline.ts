import { sendsOf } from '../machine/sends.ts'
import type { SagaDefinition } from '../define.ts'
import type { Contract } from '../../messaging/message/message.ts'
import type { Sighting } from '../../messaging/trace/trace.ts'
import { spokenIn, type Spoken } from './awaited.ts'
import type { Answered } from './answered.ts'
import type { KnownInstance } from './instance.ts'

/** A service that had, or has, a message. */
export interface Hop {
  service: string
  state: Sighting['state'] | 'unknown'
  /** Since when. */
  at: string
  /** From when it was sent until it was here; of one that is still on its way, until now. */
  waitedMs: number
  error: string | null
  letterId: number | null
}

/** A message of an instance, over all services. */
export interface TracedMessage {
  messageId: string
  contract: string
  kind: string | null
  /** The service that sends it, where that is known. */
  from: string | null
  to: string[]
  sentAt: string
  /** The message that it follows from, as far as that can be told. */
  causedBy: string | null
  hops: Hop[]
}

/**
 * The messages of an instance in the order they were made, with the wait at each hop.
 * @param asked ids of those that services were asked about: of others nothing is known
 */
export function timelineOf(
  { steps, now }: KnownInstance,
  definition: SagaDefinition,
  service: string,
  asked: readonly string[],
  { reports, unknown }: Answered
): TracedMessage[] {
  const contracts = contractsOf(definition)
  const ids = new Set(asked)
  const told = spokenIn(steps).filter(({ messageId }) => ids.has(messageId))
  const spoken = [...told, ...onTheirWay({ reports, unknown }, steps, service)]
  const known = new Map(spoken.map((one) => [one.messageId, one]))
  const sighted = new Map<string, (Sighting & { service: string })[]>()
  for (const [name, { messages }] of reports)
    for (const one of messages) {
      const all = sighted.get(one.messageId) ?? []
      sighted.set(one.messageId, [...all, { ...one, service: name }])
    }
  const takers = (one: Spoken) => {
    const contract = contracts.get(one.contract)
    if (contract?.kind === 'command') return [contract.owner]
    return [...reports].flatMap(([name, { endpoint }]) =>
      endpoint.takes.includes(one.contract) ? [name] : []
    )
  }
  const causes = causesOf(steps)
  return [...known.values()]
    .map((one): TracedMessage => {
      const contract = contracts.get(one.contract)
      const from = one.sent ? service : (contract?.owner ?? null)
      const to = takers(one)
      const sentAt = madeAt(one)
      const seen = sighted.get(one.messageId) ?? []
      const cause = causes.get(one.messageId)
      return {
        messageId: one.messageId,
        contract: one.contract,
        kind: contract?.kind ?? null,
        from,
        to,
        sentAt: sentAt.toISOString(),
        causedBy: cause ?? (from === service ? null : answered(one, spoken, from, reports)),
        hops: hopsOf(to, seen, sentAt, now, { reports, unknown })
      }
    })
    .toSorted((a, b) => (a.sentAt < b.sentAt ? -1 : a.sentAt > b.sentAt ? 1 : 0))
}

/** What came for the instance, and has not moved it yet. */
function onTheirWay(
  { reports }: Answered,
  steps: KnownInstance['steps'],
  service: string
): Spoken[] {
  const had = new Set(spokenIn(steps).map(({ messageId }) => messageId))
  const sequence = (steps.at(-1)?.sequence ?? 0) + 1
  return [...reports].flatMap(([name, { messages }]) =>
    messages
      .filter(({ messageId, contract }) => contract !== null && !had.has(messageId))
      .map(({ messageId, contract, at, destination }) => ({
        messageId,
        contract: contract!,
        sequence,
        at: new Date(at),
        sent: name === service && destination !== service
      }))
  )
}

function hopsOf(
  to: readonly string[],
  seen: readonly (Sighting & { service: string })[],
  sentAt: Date,
  now: Date,
  { reports, unknown }: Answered
): Hop[] {
  const isOver = (state: string) => state === 'handled' || state === 'deadLetter'
  const hops = seen.map(({ service, state, at, error, letterId }): Hop => ({
    service,
    state,
    at,
    waitedMs: Math.max(0, (isOver(state) ? Date.parse(at) : now.getTime()) - sentAt.getTime()),
    error,
    letterId
  }))
  const isLeaving = seen.some(({ state }) =>
    ['outbox', 'broker', 'scheduled', 'discarded'].includes(state)
  )
  const missing = to.filter((name) => seen.every(({ service }) => service !== name))
  for (const service of isLeaving ? [] : missing) {
    const days = reports.get(service)?.endpoint.inboxDays ?? Infinity
    const isForgotten = now.getTime() - sentAt.getTime() > days * 86_400_000
    hops.push({
      service,
      state: unknown.has(service) || isForgotten ? 'unknown' : 'broker',
      at: sentAt.toISOString(),
      waitedMs: Math.max(0, now.getTime() - sentAt.getTime()),
      error: null,
      letterId: null
    })
  }
  return hops.toSorted((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0))
}

/** What a step sent follows from the message that it was made by. */
function causesOf(steps: KnownInstance['steps']): Map<string, string> {
  return new Map(
    steps.flatMap(({ message_id: cause, sent }) =>
      cause === null ? [] : sent.map(({ messageId }) => [messageId, cause] as const)
    )
  )
}

/** The last message before it that its sender takes. */
function answered(
  one: Spoken,
  spoken: readonly Spoken[],
  from: string | null,
  reports: Answered['reports']
): string | null {
  const takes = from === null ? undefined : reports.get(from)?.endpoint.takes
  if (!takes) return null
  const before = spoken.filter(
    (other) => other.sequence < one.sequence && takes.includes(other.contract)
  )
  return before.at(-1)?.messageId ?? null
}

/** A UUIDv7 says when it was made; of others the step does, that had or sent it. */
function madeAt({ messageId, at }: Spoken): Date {
  return messageId[14] === '7'
    ? new Date(Number.parseInt(messageId.replaceAll('-', '').slice(0, 12), 16))
    : at
}

function contractsOf(definition: SagaDefinition): Map<string, Contract> {
  const all = [definition.startedBy, ...definition.handles, ...sendsOf(definition)]
  return new Map(all.map((contract) => [contract.name, contract]))
}

import { idOfKey } from '../../messaging/message/correlation.ts'
import type { Contract, Message } from '../../messaging/message/message.ts'
import { checker } from '../../messaging/message/validation.ts'
import type { Tx } from '../../messaging/postgres/sql.ts'
import type { SagaDefinition } from '../define.ts'
import { acceptedEvents, eventName, restingStates, timersIn } from '../machine/states.ts'
import { errorText } from '../machine/error-text.ts'
import type { SagaHost, SagaMove } from './host.ts'
import { SagaInstance } from './instance.ts'
import { unstorable } from '../machine/storable.ts'
import type { DeferredEvent, LockedRow } from '../store/rows.ts'
import { ofVersion, Stranded } from './versions.ts'
import { SagaboxError } from '../../messaging/errors/sagabox-error.ts'

/** What a person asked of an instance cannot be done. */
export class NotMoved extends SagaboxError {
  override readonly name = 'NotMoved'
  override readonly code = 'NOT_MOVED'
  /** `invalid`: what was asked makes no sense; `conflict`: not where the instance is now. */
  readonly kind: 'invalid' | 'conflict'
  /** Which part of what was asked. */
  readonly problem: { field: string; expected: string } | undefined

  constructor(kind: NotMoved['kind'], text: string, problem?: NotMoved['problem']) {
    super(text)
    this.kind = kind
    this.problem = problem
  }
}

/** An instance after a person has moved it. */
export type MovedByHand = SagaMove & { version: number }

interface Precondition {
  /** Who, for the history; nobody is named when not given. */
  by?: string | undefined
  /** Recorded steps that the instance must have: those that the person has seen. */
  version?: number
}

/** An event that a person supplies. */
export interface Answer extends Precondition {
  /** One of the events that the state takes, a message's name or a timer's, short or whole. */
  event: string
  /** The message's; the field that names the instance may be left out. */
  body?: Record<string, unknown>
  /** Why, for the history. */
  reason: string
}

/** Where a person brings an instance. */
export interface Placement extends Precondition {
  version: number
  /** A state of today's machine in which instances rest, as a path. */
  state: string
  /** Fields of the context that get other values. */
  context?: Record<string, unknown>
  reason: string
}

/** An event kept for another state that a person drops. */
export interface Drop extends Precondition {
  event: string
  /** Of the message that brought it; the first of the event's name when not given. */
  messageId?: string
  reason: string
}

/**
 * Supplies an event that may never come, or fires a timer before its time, as if it had happened.
 * @returns undefined when there is no such instance
 * @throws NotMoved `invalid` naming what is wrong with the event or its body, `conflict` when the
 * state does not take it
 * @throws Stranded when no machine of this process can move the instance
 */
export function answer(
  host: SagaHost,
  tx: Tx,
  sagaId: string,
  given: Answer
): Promise<MovedByHand | undefined> {
  return host.moveByHand(tx, sagaId, (row, now) => {
    const { definition } = host
    mustBeAt(row, given)
    const contract = definition.handles.find(({ name }) => name === given.event)
    const event = contract ? given.event : requestOrTimer(definition, row, given.event)
    const body = contract
      ? bodyFor(contract, given.body, row.key ?? row.saga_id)
      : storable(given.body ?? {})
    const instance = onMachine(row, () => SagaInstance.load(definition, row, now))
    const { taken, reason } = onMachine(row, () =>
      instance.answer({ ...body, type: event }, given, now)
    )
    if (!taken) throw notTaken(definition, row, given.event, reason)
    return instance
  })
}

/**
 * Brings an instance to a state of today's machine, whatever its machine can do. The timers of that
 * state run; it sends nothing: `retry` sends the commands of the state.
 * @returns undefined when there is no such instance
 * @throws NotMoved `invalid` naming what is wrong, `conflict` when it has moved, or its machine
 * fails on an event that it had deferred
 */
export function place(
  host: SagaHost,
  tx: Tx,
  sagaId: string,
  given: Placement
): Promise<MovedByHand | undefined> {
  return host.moveByHand(tx, sagaId, (row, now) => {
    const { definition } = host
    mustBeAt(row, given)
    const states = restingStates(definition)
    if (!states.includes(given.state))
      throw invalid({ field: 'state', expected: `must be one of ${states.join(', ')}` })
    const problem = unstorable(given.context ?? {})
    if (problem)
      throw invalid({
        field: 'context',
        expected: `must be what PostgreSQL stores as JSON: ${problem}`
      })
    const to = { value: valueOf(given.state), context: { ...row.context, ...given.context } }
    return onMachine(row, () => SagaInstance.placed(definition, row, to, given, now))
  })
}

/**
 * Drops an event that an instance keeps for a state to which it may never come.
 * @returns undefined when there is no such instance
 * @throws NotMoved `conflict` when it keeps no such event
 */
export function drop(
  host: SagaHost,
  tx: Tx,
  sagaId: string,
  given: Drop
): Promise<MovedByHand | undefined> {
  const choose = (row: LockedRow): DeferredEvent => {
    mustBeAt(row, given)
    const kept = row.deferred ?? []
    const wanted = given.messageId?.toLowerCase()
    const found = kept.find(
      ({ event, messageId }) => event.type === given.event && (!wanted || messageId === wanted)
    )
    if (found) return found
    const keeps = [...new Set(kept.map(({ event }) => event.type))].join(', ') || 'none'
    throw new NotMoved(
      'conflict',
      `Saga ${row.saga_id} does not keep ${[given.event, wanted].filter(Boolean).join(' ')} for another state; deferred events: ${keeps}`
    )
  }
  return host.dropDeferred(tx, sagaId, choose, given)
}

function mustBeAt(
  { saga_id: sagaId, version, state }: LockedRow,
  { version: expected }: Precondition
): void {
  if (expected === undefined || expected === version) return
  throw new NotMoved(
    'conflict',
    `Saga ${sagaId} has moved: it is at version ${version}, in ${state}, and not at version ${expected}`
  )
}

/** The type of an event that no message brings. Two timers may have one short name. */
function requestOrTimer(definition: SagaDefinition, row: LockedRow, event: string): string {
  const { handles, asks = [] } = definition
  if (asks.includes(event)) return event
  const known = ofVersion(definition, row.machine_version)
  // A timer that a row has lost is still one that the state waits for.
  const timers = new Set([
    ...row.timers.map((timer) => timer.event),
    ...(known ? timersIn(known, row.state) : [])
  ])
  const meant = timers.has(event)
    ? [event]
    : [...timers].filter((timer) => eventName(timer) === event)
  if (meant.length === 1) return meant[0]!
  const names =
    meant.length > 1
      ? meant
      : [...handles.map(({ name }) => name), ...asks, ...[...timers].map(eventName)]
  throw invalid({ field: 'event', expected: `must be one of ${[...new Set(names)].join(', ')}` })
}

function bodyFor(
  contract: Contract,
  given: Record<string, unknown> = {},
  key: string
): Message['body'] {
  // A saga takes no contract without it.
  const correlateBy = contract.correlateBy!
  const body = storable(filledIn(given, correlateBy.split('.'), key, correlateBy))
  const problem = checker(contract.schema)(body)
  if (problem) throw invalid({ field: `body${problem.field}`, expected: problem.expected })
  return body
}

/** A body whose correlating field names the instance. */
function filledIn(
  body: Record<string, unknown>,
  [name, ...inner]: string[],
  key: string,
  field: string
): Record<string, unknown> {
  const found = Object.hasOwn(body, name!) ? body[name!] : undefined
  if (inner.length === 0) {
    const isThisOne = typeof found === 'string' && found !== '' && idOfKey(found) === idOfKey(key)
    if (found !== undefined && !isThisOne)
      throw invalid({ field: `body.${field}`, expected: `must be ${key}, or left out` })
    return { ...body, [name!]: key }
  }
  if (found !== undefined && (typeof found !== 'object' || found === null)) return body
  return {
    ...body,
    [name!]: filledIn((found ?? {}) as Record<string, unknown>, inner, key, field)
  }
}

function storable(body: Record<string, unknown>): Record<string, unknown> {
  const problem = unstorable(body, 'body')
  if (problem)
    throw invalid({ field: 'body', expected: `must be what PostgreSQL stores as JSON: ${problem}` })
  return body
}

/** What a machine throws is no fault of the request, and repeating it does not help. */
function onMachine<R>({ saga_id: sagaId, state }: LockedRow, work: () => R): R {
  try {
    return work()
  } catch (error) {
    if (error instanceof Stranded) throw error
    throw new NotMoved(
      'conflict',
      `The machine of saga ${sagaId} fails in ${state}: ${errorText(error)}. POST /sagas/${sagaId}/migrate brings it to another state`
    )
  }
}

function notTaken(
  definition: SagaDefinition,
  row: LockedRow,
  event: string,
  reason: string | undefined
): NotMoved {
  const { saga_id: sagaId, state, version } = row
  const known = ofVersion(definition, row.machine_version)
  const accepts = known ? acceptedEvents(known, state) : []
  return new NotMoved(
    'conflict',
    `Saga ${sagaId} is in ${state} at version ${version} and does not take ${event}${reason ? ` (${reason})` : ''}; events possible now: ${accepts.join(', ') || 'none'}`
  )
}

function invalid(problem: NotMoved['problem'] & {}): NotMoved {
  return new NotMoved('invalid', `${problem.field} ${problem.expected}`, problem)
}

/** `Failed.settled` -> `{ Failed: 'settled' }` */
function valueOf(path: string): unknown {
  const keys = path.split('.')
  return keys.slice(0, -1).reduceRight<unknown>((inner, key) => ({ [key]: inner }), keys.at(-1))
}

import type { AnyStateMachine, AnyStateNode, StateValue } from 'xstate'
import { SagaboxError } from '../messaging/errors/sagabox-error.ts'
import { milliseconds } from '../messaging/message/duration.ts'
import type { BodyOf, Contract } from '../messaging/message/message.ts'
import type { Tx } from '../messaging/postgres/sql.ts'
import { delayProblemsOf } from './delay.ts'
import { expandWildcards, idleWildcards } from './wildcards.ts'

/** An instance after the events of one batch, for the service's own tables. */
export interface SagaChange {
  /** A UUID. */
  sagaId: string
  /** What its messages call it: `sagaId` itself, or the text that this is derived from. */
  key: string
  /** Active state as a path, e.g. `Failed.releasingStock`. */
  state: string
  /** The top-level state. */
  status: string
  context: Record<string, unknown>
}

/** Something that an instance must not leave behind unless it passes the point of no return. */
export interface Effect {
  /** The event that tells of it. */
  readonly doneBy: Contract
  /** The command that undoes it. */
  readonly undoneBy: Contract
  /** Events that say that nothing of it is there, or is there any more. */
  readonly clearedBy?: readonly Contract[]
}

/**
 * Tag of a state in which an instance waits for nothing: late events still reach it, which XState's
 * `final` would end.
 */
export const END = 'end'

/** The event under which a history records that an operator had a state's commands sent again. */
export const RETRY = 'retry'

/**
 * The event under which a history records that `migrate` has brought an instance to another version
 * of its machine.
 */
export const MIGRATE = 'migrate'

/** The event under which a history records that a person has dropped an event that was deferred. */
export const DROP = 'drop deferred'

/** Words of histories that no event may have for its name. */
const WORDS = { [RETRY]: 'retry', [MIGRATE]: 'migration', [DROP]: 'dropped event' }

/** A delayed event, kept on the instance's row. */
export interface PendingTimer {
  id: string
  event: string
  /** ISO 8601, by the database's clock. */
  dueAt: string
  /** How often its own event has started it again. */
  times?: number
}

/** Where an instance is, as plain data. */
export interface SagaSnapshot {
  /** The state as XState writes it: `{ Suspend: 'takingPayment' }`. */
  value: StateValue
  context: Record<string, unknown>
  timers: readonly PendingTimer[]
}

/** A saga as data: what defineSaga answers, and what it takes of a machine written by hand. */
export interface SagaDefinition {
  /** Names the saga in its tables and URLs. */
  readonly name: string
  /**
   * A pure XState machine: it sends with `send()`, waits with `after`, and never invokes or spawns.
   * A wildcard, `'*'` or `'x.*'`, stands for those of `handles` and `asks` that it matches; never
   * for a timer.
   */
  readonly machine: AnyStateMachine
  /** Raised by one with every change that instances under way would notice; 1 when not given. */
  readonly version?: number
  /**
   * Machines of other versions: each moves the instances that are on it, until these have ended.
   */
  readonly previous?: Readonly<Record<number, AnyStateMachine>>
  /**
   * Brings an instance to today's version the next time that it is to move. A timer of the new
   * state goes on when the snapshot has one of the same delay, and starts otherwise.
   * @param from the version that the instance is on
   * @returns undefined to leave it on its version
   */
  migrate?(
    snapshot: SagaSnapshot,
    from: number
  ): (Pick<SagaSnapshot, 'value' | 'context'> & Partial<Pick<SagaSnapshot, 'timers'>>) | undefined
  /** The message whose body becomes the machine's input; its correlation id names the instance. */
  readonly startedBy: Contract
  /**
   * An instance is begun by SagaHost.start, in the transaction that commits its first message, and
   * not by that message: what comes for an instance that is not there is then a dead letter at
   * once. Without it the message begins it, wherever it comes from; a second one changes nothing,
   * and an event that overtakes it comes again by the schedule of redeliveries.
   */
  readonly startsInTransaction?: boolean
  /** The events that reach the machine, as `{ type: contract.name, ...body }`. */
  readonly handles: readonly Contract[]
  /** Types of the events that come without a message: see SagaHost.ask. */
  readonly asks?: readonly string[]
  /** Which of `asks` or `handles` cancels an instance, by its name, where people may do so. */
  readonly cancelBy?: string
  /**
   * What is done elsewhere while an instance runs, and how it is undone; checkSaga holds the
   * machine to it.
   */
  readonly effects?: readonly Effect[]
  /**
   * A state, or a top-level state for all inside it, in and after which no effect is undone any
   * more.
   */
  readonly pointOfNoReturn?: string
  /**
   * Brings the service's own tables up to date, in the transaction that moves the instances; ids
   * come sorted.
   */
  project?(tx: Tx, changes: readonly SagaChange[]): Promise<void>
}

/** A saga that cannot be what its definition says. */
export class InvalidSaga extends SagaboxError {
  override readonly name = 'InvalidSaga'
  override readonly code = 'INVALID_SAGA'

  constructor(saga: string, what: string) {
    super(`Saga ${saga}: ${what}`)
  }
}

/**
 * Holds a saga to what a saga can be.
 * @returns the definition with machines whose wildcards take no timers
 * @throws InvalidSaga when a machine has parallel states or starts actors, neither of which survives a
 * restart, waits for what is no time, or has a wildcard that stands for nothing, or the versions
 * make no sense
 */
export function checkedSaga(definition: SagaDefinition): SagaDefinition {
  const { name, machine, version = 1, previous = {}, handles, asks = [], cancelBy } = definition
  const events = [...handles.map((contract) => contract.name), ...asks]
  const refuse = (what: string) => {
    throw new InvalidSaga(name, what)
  }
  if (handles.includes(definition.startedBy) && !definition.startsInTransaction)
    refuse(
      `${definition.startedBy.name} starts it and is among handles, where it would never arrive, since a second start changes nothing: leave it out of handles`
    )
  const twice = events.find((event, index) => events.indexOf(event) !== index)
  if (twice !== undefined)
    refuse(
      `two of its events are called ${twice}, and a state could not tell them apart: expected each name once in handles and asks`
    )
  if (cancelBy !== undefined && !events.includes(cancelBy))
    refuse(
      `cancelBy is ${cancelBy}, which is none of its events; expected one of ${events.join(', ') || 'asks'}`
    )
  for (const [word, meaning] of Object.entries(WORDS)) {
    if (events.includes(word)) {
      refuse(`${word} is what histories call a ${meaning}; name the event otherwise`)
    }
  }
  for (const contract of [definition.startedBy, ...handles])
    if (contract.correlateBy === undefined || contract.correlateBy === '')
      refuse(`${contract.name} says by no correlateBy which instance it is for`)
  for (const number of [version, ...Object.keys(previous).map(Number)])
    if (!Number.isSafeInteger(number) || number < 1)
      refuse(`a version must be a whole number from 1, not ${number}`)
  if (Object.hasOwn(previous, version))
    refuse(`version ${version} is machine itself; previous holds the others`)
  for (const { state, descriptor } of idleWildcards(machine, events))
    refuse(
      `${state || 'the machine'} decides ${descriptor}, which stands for none of the events that the saga takes (${events.join(', ') || 'none'})${descriptor.startsWith('xstate.') ? '; a wildcard takes no timer' : ''}`
    )
  for (const node of [machine, ...Object.values(previous)].flatMap(({ root }) => statesOf(root))) {
    for (const problem of delayProblemsOf(node.machine, node)) refuse(problem)
    if (node.type === 'parallel')
      refuse(`state ${node.id} is parallel; a saga is in one state at a time`)
    if (node.invoke.length > 0)
      refuse(`state ${node.id} invokes an actor; send a command and wait for its event instead`)
  }
  const expanded = expandWildcards(machine, events)
  const others = Object.entries(previous).map(
    ([number, other]) => [number, expandWildcards(other, events)] as const
  )
  return {
    ...definition,
    machine: expanded,
    ...(definition.previous && { previous: Object.fromEntries(others) })
  }
}

/** A state and all states inside it, in the order they are written. */
export function statesOf(node: AnyStateNode): AnyStateNode[] {
  return [node, ...Object.values(node.states).flatMap(statesOf)]
}

/** A message that a machine's action sends. */
export interface Send {
  contract: Contract
  body: unknown
  /** How much later it is sent, ms. */
  after?: number
}

/** When what a machine sends leaves. */
export interface SendOptions {
  /**
   * How much later it is sent: `10s`, `5m`, `1d`, or milliseconds. It is sent wherever the instance
   * is by then; what a later event is to prevent waits in a state instead, by that state's `after`.
   */
  readonly after?: string | number
}

/**
 * The actions that a machine's setup needs to `send`, `ignore` and `defer`. They do nothing: the host
 * reads their params.
 */
export const sagaActions = {
  send(_: unknown, _params: Send | undefined): void {},
  ignore(_: unknown, _params: { reason: string }): void {},
  defer(): void {}
}

/**
 * An action of a machine that sends a message.
 * @param body composes the message's body from the machine's context; undefined sends nothing
 * @throws InvalidDuration when `after` is none; InvalidSaga when `body` is no function
 */
export function send<C extends Contract, Context>(
  contract: C,
  body: (context: Context) => BodyOf<C> | undefined,
  options: SendOptions = {}
) {
  if (typeof body !== 'function')
    throw new InvalidSaga(
      `that sends ${contract.name}`,
      `the body is ${body === undefined ? 'missing' : `of type ${typeof body}`}; expected a function that makes it of the context: send(${contract.name}, ({ id }) => ({ id }))`
    )
  const after = options.after === undefined ? undefined : { after: milliseconds(options.after) }
  const params = ({ context }: { context: Context }): Send | undefined => {
    const content = body(context)
    return content === undefined ? undefined : { contract, body: content, ...after }
  }
  CONTRACTS.set(params, contract)
  return { type: 'send' as const, params }
}

/**
 * What each `send` of a machine sends: its params are a function, and would tell only when called.
 */
const CONTRACTS = new WeakMap<object, Contract>()

/** The contract of an action that `send` made; of another action nothing. */
export function contractSentBy(action: unknown): Contract | undefined {
  const { params } = action as { params?: unknown }
  return typeof params === 'function' ? CONTRACTS.get(params) : undefined
}

/**
 * A transition of an event that changes nothing here, on purpose.
 * @param reason for people: the history shows it, and so does the answer to a request that comes to
 * this
 */
export function ignore(reason: string) {
  return { actions: { type: 'ignore' as const, params: { reason } } }
}

/**
 * A transition of an event that came too early: it is kept, and comes again whenever the state has
 * changed.
 */
export function defer() {
  return { actions: { type: 'defer' as const } }
}

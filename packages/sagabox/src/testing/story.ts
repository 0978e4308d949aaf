import { AssertionError } from 'node:assert'
import { isDeepStrictEqual } from 'node:util'
import { keyOf, type Contract, type Message } from '../messaging/message/message.ts'
import { checker } from '../messaging/message/validation.ts'
import type { SagaDefinition } from '../saga/define.ts'
import { eventName } from '../saga/machine/states.ts'
import { SagaInstance } from '../saga/run/instance.ts'
import { replay } from '../saga/inspect/replay.ts'
import type { SagaEvent } from '../saga/machine/step.ts'
import type { HistoryRow, SagaRow } from '../saga/store/rows.ts'
import { milliseconds } from '../messaging/message/duration.ts'

/** When every story begins. */
const START = new Date('2026-01-01T00:00:00.000Z')

/**
 * Most timers that one `advance` fires: a machine whose timers start each other without a pause
 * never ends.
 */
const MOST_TIMERS = 10_000

/**
 * What is expected to be sent: of a contract, whatever it says, or a whole message, whose body
 * counts, and how much later it is sent (`after`).
 */
export type Expected = Contract | Pick<Message, 'contract' | 'body' | 'later'>

/** A message, or an event that none carries, as in SagaHost.ask. */
export type Happening = Message | SagaEvent

interface Told {
  row: SagaRow
  now: Date
  history: readonly { step: HistoryRow; at: Date }[]
  /** Since the last `then`, or since `given`. */
  sent: readonly Message[]
  /** Messages handled, whose copies the inbox drops. */
  handled: ReadonlySet<string>
}

/**
 * Tells a saga's stories, in memory and in virtual time: `tell(saga).given(…).when(…).then(state,
 * messages)`. What happens to the instance is the host's own code, and between two events it is
 * stored and loaded as a row is.
 */
export function tell(saga: SagaDefinition) {
  const when = (first: Message): Story => {
    if (first.contract !== saga.startedBy)
      throw new Error(
        `${saga.name} is started by ${saga.startedBy.name}, not by ${first.contract.name}: give that first`
      )
    validate(first)
    const instance = SagaInstance.start(saga, first, START)
    return new Story(
      saga,
      stored(instance, { now: START, history: [], sent: [], handled: new Set([first.messageId]) })
    )
  }
  return {
    /**
     * An instance after these events; the first starts it. What it has sent until then is taken as
     * it is.
     */
    given: (first: Message, ...more: Happening[]): Story =>
      more.reduce((story, happening) => story.when(happening), when(first)).forget(),
    /** The event that starts an instance. */
    when
  }
}

/**
 * An instance at one point of its life. Every call answers a new story; the old one can be told on
 * in another way.
 */
export class Story {
  readonly #saga: SagaDefinition
  readonly #told: Told

  /** @internal */
  constructor(saga: SagaDefinition, told: Told) {
    this.#saga = saga
    this.#told = told
  }

  /** Active state as a path. */
  get state(): string {
    return this.#told.row.state
  }

  get context(): Readonly<Record<string, unknown>> {
    return this.#told.row.context
  }

  /** Pending timers by their short name, with the time from the start of the story. */
  get timers(): { event: string; dueInMs: number }[] {
    return this.#told.row.timers.map(({ event, dueAt }) => ({
      event: eventName(event),
      dueInMs: Date.parse(dueAt) - this.#told.now.getTime()
    }))
  }

  get history(): readonly HistoryRow[] {
    return this.#told.history.map(({ step }) => step)
  }

  /** What the machine has sent since the last `then`. */
  get sent(): readonly Message[] {
    return this.#told.sent
  }

  /** The row, as the database would hold it. */
  get row(): Readonly<SagaRow> {
    return this.#told.row
  }

  /** One more event. A copy of a message that came before is dropped, as the inbox drops it. */
  when(happening: Happening): Story {
    if (!isMessage(happening))
      return this.#move((instance, now) => void instance.ask(happening, now))
    const { contract, messageId, correlationId } = happening
    if (!this.#saga.handles.includes(contract))
      throw new Error(
        `${contract.name} never reaches ${this.#saga.name}: add it to the saga's handles, or leave it out`
      )
    if (correlationId !== this.#told.row.saga_id)
      throw new Error(
        `${contract.name} is for ${keyOf(contract, happening.body)}, and this story is of ${this.#told.row.key ?? this.#told.row.saga_id}: give both the same ${contract.correlateBy}`
      )
    validate(happening)
    if (this.#told.handled.has(messageId)) return this
    return this.#move((instance, now) => instance.apply(happening, now), {
      handled: new Set([...this.#told.handled, messageId])
    })
  }

  /** Lets time pass; timers that fall due on the way fire at their times, in their order. */
  advance(duration: string | number): Story {
    const end = this.#told.now.getTime() + milliseconds(duration)
    let story = this.#with({})
    for (let fired = 0; ; fired++) {
      const next = Math.min(...story.#told.row.timers.map(({ dueAt }) => Date.parse(dueAt)))
      if (next > end) return story.#with({ now: new Date(end) })
      if (fired === MOST_TIMERS)
        throw new Error(
          `${MOST_TIMERS} timers fired within ${duration}: they start each other without a pause\n${story.#tale()}`
        )
      story = story.#with({ now: new Date(next) }).#move((instance, now) => instance.fire(now))
    }
  }

  /** Goes on with another definition of the saga, as after a deploy. */
  with(saga: SagaDefinition): Story {
    return new Story(saga, this.#told)
  }

  /**
   * Holds the instance to a state, and to what it has sent since the last `then`: all of it, in
   * order.
   * @throws AssertionError with the whole history
   */
  then(state: string, messages: readonly Expected[] = []): Story {
    // What is returned from an async function or awaited is asked for its `then`.
    if (typeof state !== 'string')
      throw new TypeError(
        'A story is no promise: neither await it nor return it from an async function'
      )
    const { row, sent } = this.#told
    if (row.state !== state || !isAsExpected(sent, messages)) {
      throw new AssertionError({
        message: `Expected ${state}, ${sentence(messages)}\n     Got ${row.state}, ${sentence(messages.some((one) => 'body' in one) ? sent : sent.map(({ contract }) => contract))}\n${this.#tale()}`,
        expected: { state, messages: messages.map(plain) },
        actual: { state: row.state, messages: sent.map(plain) },
        operator: 'then'
      })
    }
    const { firstDifference } = replay(this.#saga, this.history, row)
    if (firstDifference)
      throw new AssertionError({
        message: `The history does not lead to the stored state again: a machine decides by its context and its event alone. First difference: ${JSON.stringify(firstDifference)}\n${this.#tale()}`,
        operator: 'then'
      })
    return this.forget()
  }

  /**
   * Holds the last event to having changed nothing on purpose; `reason` to what the machine says
   * about it.
   */
  thenIgnored(reason?: string): Story {
    const { step } = this.#told.history.at(-1)!
    const expected = reason === undefined ? 'ignored: ' : `ignored: ${reason}`
    if (!step.note?.startsWith(expected))
      throw new AssertionError({
        message: `Expected ${eventName(step.event)} to be ${expected}\n     Got ${step.note ?? `handled: ${step.from_state ?? '-'} -> ${step.to_state}`}\n${this.#tale()}`,
        expected,
        actual: step.note,
        operator: 'thenIgnored'
      })
    return this.then(step.from_state!)
  }

  /** What was sent until now is no longer looked at. */
  forget(): Story {
    return this.#with({ sent: [] })
  }

  #with(changed: Partial<Told>): Story {
    return new Story(this.#saga, { ...this.#told, ...changed })
  }

  #move(move: (instance: SagaInstance, now: Date) => void, changed: Partial<Told> = {}): Story {
    const { row, now } = this.#told
    const instance = SagaInstance.load(this.#saga, row, now)
    move(instance, now)
    return instance.history.length === 0
      ? this.#with(changed)
      : new Story(this.#saga, stored(instance, { ...this.#told, ...changed }))
  }

  #tale(): string {
    const lines = this.#told.history.map(({ step, at }) => {
      const sent =
        step.sent.length > 0 ? `  sends ${step.sent.map(({ type }) => type).join(', ')}` : ''
      return `  +${(at.getTime() - START.getTime()) / 1000}s  ${eventName(step.event)}  ${step.from_state ?? '-'} -> ${step.to_state}${sent}${step.note ? `  (${step.note})` : ''}`
    })
    const timers = this.timers.map(({ event, dueInMs }) => `  in ${dueInMs / 1000}s  ${event}`)
    return ['History', ...lines, ...(timers.length > 0 ? ['Timers', ...timers] : [])].join('\n')
  }
}

/** As a row is written and read: through JSON. */
function stored(instance: SagaInstance, before: Omit<Told, 'row'>): Told {
  const {
    value,
    context,
    timers,
    deferred,
    last_error: lastError,
    ...plainColumns
  } = instance.toRow()
  const json = JSON.parse(
    JSON.stringify({ value, context, timers, deferred, last_error: lastError })
  ) as Pick<SagaRow, 'value' | 'context' | 'timers' | 'deferred' | 'last_error'>
  return {
    ...before,
    row: { ...plainColumns, ...json },
    history: [
      ...before.history,
      ...instance.history.map((step) => ({
        step: { ...step, body: JSON.parse(JSON.stringify(step.body)) as HistoryRow['body'] },
        at: before.now
      }))
    ],
    sent: [...before.sent, ...instance.sent]
  }
}

function isMessage(happening: Happening): happening is Message {
  return 'contract' in happening
}

const checkers = new WeakMap<Contract, ReturnType<typeof checker>>()

/** The endpoint would not hand over anything else. */
function validate({ contract, body }: Pick<Message, 'contract' | 'body'>): void {
  let check = checkers.get(contract)
  if (!check) checkers.set(contract, (check = checker(contract.schema)))
  const problem = check(body)
  if (problem)
    throw new Error(`${contract.name} is not valid: body${problem.field} ${problem.expected}`)
}

function isAsExpected(sent: readonly Message[], expected: readonly Expected[]): boolean {
  return (
    sent.length === expected.length &&
    sent.every((message, index) => {
      const one = expected[index]!
      return 'body' in one
        ? one.contract === message.contract &&
            one.later?.ms === message.later?.ms &&
            isDeepStrictEqual(
              JSON.parse(JSON.stringify(one.body)),
              JSON.parse(JSON.stringify(message.body))
            )
        : one === message.contract
    })
  )
}

function sentence(messages: readonly Expected[]): string {
  return messages.length === 0 ? 'nothing sent' : `sent ${messages.map(plain).join(', ')}`
}

function whenOf({ later }: Pick<Message, 'later'>): string {
  return later?.ms === undefined ? '' : ` after ${later.ms / 1000}s`
}

function plain(expected: Expected): string {
  return 'body' in expected
    ? `${expected.contract.name} ${JSON.stringify(expected.body)}${whenOf(expected)}`
    : expected.name
}

import { isDeepStrictEqual } from 'node:util'
import type { TSchema } from 'typebox'
import type { AnyMachineSnapshot, AnyStateNode } from 'xstate'
import { decisionOf } from '../machine/decision.ts'
import { statesOf, type SagaDefinition } from '../define.ts'
import { endsOf, eventName, pathOfNode } from '../machine/states.ts'
import { errorText } from '../machine/error-text.ts'
import { unstorable } from '../machine/storable.ts'
import { begin, step, type SagaEvent, type Step } from '../machine/step.ts'

/** What checkSaga tries a machine with. */
export interface CheckOptions {
  /**
   * Bodies of events, by name, where the one made from the contract's schema does not do: a machine
   * whose guards look into a body needs one for each way.
   */
  samples?: Readonly<Record<string, readonly Record<string, unknown>[]>>
}

/** Most situations that are looked at; a machine that counts in its context has no end of them. */
const LIMIT = 5000

/**
 * Follows every path of a saga's machine with sample events and timers, breadth first, as far as
 * LIMIT, and says what may go wrong and what to do: undecided events, waits without a deadline,
 * states without a way in or out, effects left behind, contexts that cannot be stored.
 * @returns one sentence a finding; none when all is well
 */
export function checkSaga(
  definition: SagaDefinition,
  { samples = {} }: CheckOptions = {}
): string[] {
  const leaves = statesOf(definition.machine.root).filter(
    (node) => Object.keys(node.states).length === 0
  )
  const ends = endsOf(definition)
  return [
    ...checkNames(definition, leaves, ends),
    ...leaves.flatMap((leaf) => checkDecisions(definition, leaf)),
    ...leaves
      .filter((leaf) => !ends.includes(pathOfNode(leaf)) && !hasDeadline(leaf))
      .map(
        (leaf) =>
          `${pathOfNode(leaf)} waits without a deadline: give it, or a state around it, an after; or, if it waits for nothing, the tag end`
      ),
    ...leaves.flatMap((leaf) => checkTimers(leaf, ends.includes(pathOfNode(leaf)))),
    ...checkPaths(definition, leaves, ends, new Samples(definition, samples))
  ]
}

function checkNames(
  { handles, effects = [], pointOfNoReturn }: SagaDefinition,
  leaves: readonly AnyStateNode[],
  ends: readonly string[]
): string[] {
  const unheard = effects
    .flatMap(({ doneBy, clearedBy = [] }) => [doneBy, ...clearedBy])
    .filter((contract) => !handles.includes(contract))
  return [
    ...(ends.length === 0
      ? ['No state is an end: give those in which an instance waits for nothing the tag end']
      : []),
    ...[...new Set(unheard)].map(
      ({ name }) => `effects name ${name}, which never reaches the machine: add it to handles`
    ),
    ...(pointOfNoReturn !== undefined &&
    !leaves.some((leaf) => isInside(pathOfNode(leaf), pointOfNoReturn))
      ? [`pointOfNoReturn is ${pointOfNoReturn}, which is no state`]
      : [])
  ]
}

function checkDecisions({ handles, asks = [] }: SagaDefinition, leaf: AnyStateNode): string[] {
  return [...handles.map(({ name }) => name), ...asks].flatMap((event) => {
    const decision = decisionOf(leaf, event)
    if (decision === 'undecided')
      return [
        `${pathOfNode(leaf)} does not decide ${event}: handle it, ignore it with a reason, or defer it`
      ]
    if (decision === 'guarded')
      return [
        `${pathOfNode(leaf)} decides ${event} only when a guard lets it: give it a last alternative without a guard`
      ]
    return []
  })
}

function hasDeadline(leaf: AnyStateNode): boolean {
  return timersAround(leaf).length > 0
}

function checkTimers(leaf: AnyStateNode, isEnd: boolean): string[] {
  const state = pathOfNode(leaf)
  const timers = timersAround(leaf).map(({ event, node }) => ({
    timer: `${eventName(event)} of ${pathOfNode(node) || 'the machine'}`,
    decision: decisionOf(leaf, event)
  }))
  if (isEnd)
    return timers.map(
      ({ timer }) =>
        `${state} has the tag end and waits for ${timer}: let it wait in a state of its own, before the end`
    )
  const isSure = timers.some(({ decision }) => decision === 'handled')
  return timers.flatMap(({ timer, decision }) => {
    if (decision === 'handled' || (decision === 'guarded' && isSure)) return []
    if (decision === 'guarded')
      return [
        `${state} decides ${timer} only when a guard lets it, and waits without a deadline when none does: give it a last alternative without a guard`
      ]
    return [
      `${state} swallows ${timer}, so that it passes without effect: let it lead to another state`
    ]
  })
}

/** The timers that run in a state, its own and those of the states around it. */
function timersAround(leaf: AnyStateNode): { event: string; node: AnyStateNode }[] {
  const timers: { event: string; node: AnyStateNode }[] = []
  for (let node: AnyStateNode | undefined = leaf; node; node = node.parent)
    for (const event of new Set(node.after.map(({ eventType }) => eventType)))
      timers.push({ event, node })
  return timers
}

/** Where an instance may be, and how it got there. */
interface Situation {
  snapshot: AnyMachineSnapshot
  state: string
  /** By id. */
  timers: ReadonlyMap<string, SagaEvent>
  deferred: readonly SagaEvent[]
  /** Indexes of effects that happened and are not undone. */
  standing: readonly number[]
  pastReturn: boolean
  events: readonly string[]
  next: Situation[]
  explored: boolean
}

function checkPaths(
  definition: SagaDefinition,
  leaves: readonly AnyStateNode[],
  ends: readonly string[],
  samples: Samples
): string[] {
  const findings = new Set<string>()
  const { situations, failures } = explore(definition, samples)
  const { effects = [] } = definition
  const timed = new Set(leaves.filter(hasDeadline).map(pathOfNode))
  const spent = new Map<string, Situation>()
  for (const situation of situations)
    if (
      situation.timers.size === 0 &&
      timed.has(situation.state) &&
      !ends.includes(situation.state) &&
      !spent.has(situation.state)
    )
      spent.set(situation.state, situation)
  for (const { state, events } of spent.values())
    findings.add(
      `${state} waits without a deadline after ${events.join(', ')}: its timer is spent then; let it leave the state that sets it, or enter that anew (reenter: true)`
    )
  for (const { state, standing, events, deferred, next, explored } of situations) {
    if (!ends.includes(state)) continue
    // An event may still lead on from here, and then it is taken.
    if (explored && next.every((later) => later.state === state))
      for (const { type } of deferred)
        findings.add(
          `${state} defers ${type} for ever: nothing leads on from there; handle it, or ignore it with a reason`
        )
    for (const index of standing) {
      const { doneBy, undoneBy } = effects[index]!
      if (![...findings].some((finding) => finding.startsWith(`${state} leaves ${doneBy.name} `)))
        findings.add(
          `${state} leaves ${doneBy.name} behind after ${events.join(', ')}: send ${undoneBy.name} on the way, or ignore the event with a reason where nothing is left to undo`
        )
    }
  }
  // What was not followed to its end is given the benefit of the doubt.
  const complete = situations.every(({ explored }) => explored)
  if (complete) {
    const reached = new Set(situations.map(({ state }) => state))
    for (const leaf of leaves)
      if (!reached.has(pathOfNode(leaf)))
        findings.add(
          `${pathOfNode(leaf)} cannot be reached: no event leads there from the start; leave it out, or give samples whose bodies pass the guards`
        )
  }
  for (const state of strandedStates(situations, ends))
    findings.add(`No end can be reached from ${state}: give it a way to a state with the tag end`)
  return [...failures, ...findings]
}

function strandedStates(situations: readonly Situation[], ends: readonly string[]): Set<string> {
  const before = new Map<Situation, Situation[]>()
  for (const situation of situations)
    for (const next of situation.next) before.set(next, [...(before.get(next) ?? []), situation])
  const saved = new Set(
    situations.filter(({ state, explored }) => ends.includes(state) || !explored)
  )
  for (const situation of saved)
    for (const earlier of before.get(situation) ?? []) saved.add(earlier)
  return new Set(situations.filter((situation) => !saved.has(situation)).map(({ state }) => state))
}

function explore(
  definition: SagaDefinition,
  samples: Samples
): { situations: Situation[]; failures: string[] } {
  const { machine, startedBy } = definition
  const failures = new Set<string>()
  const found = new Map<string, Situation>()
  const attempt = <R>(where: string, event: string, move: () => R): R | undefined => {
    try {
      return move()
    } catch (error) {
      failures.add(
        `${where} fails on ${event}: ${errorText(error)}; if its body is to blame, give a sample`
      )
      return undefined
    }
  }
  const reach = (situation: Situation): Situation => {
    const { state, snapshot, standing, pastReturn, deferred, timers } = situation
    const key = JSON.stringify([
      state,
      snapshot.context,
      standing,
      pastReturn,
      deferred,
      [...timers.keys()].toSorted()
    ])
    const known = found.get(key)
    if (!known) found.set(key, situation)
    return known ?? situation
  }
  for (const input of samples.of(startedBy.name)) {
    const first = attempt('The start', startedBy.name, () => begin(machine, input))
    const start: Omit<Situation, 'snapshot' | 'state'> = {
      timers: new Map(),
      deferred: [],
      standing: [],
      pastReturn: false,
      events: [],
      next: [],
      explored: false
    }
    const begun =
      first &&
      attempt('The start', startedBy.name, () =>
        after(
          definition,
          { ...start, snapshot: first.snapshot, state: first.to },
          { type: startedBy.name },
          first
        )
      )
    if (begun) reach(begun)
  }
  // A map goes on to what is added while it is walked through.
  for (const situation of found.values()) {
    if (found.size > LIMIT) break
    const happen = (event: SagaEvent, before: Situation) => {
      const next = attempt(situation.state, eventName(event.type), () =>
        follow(definition, before, event)
      )
      if (next) situation.next.push(reach(next))
    }
    for (const event of samples.events) happen(event, situation)
    for (const [id, event] of situation.timers)
      happen(event, {
        ...situation,
        timers: new Map([...situation.timers].filter(([other]) => other !== id))
      })
    situation.explored = true
  }
  return { situations: [...found.values()], failures: [...failures] }
}

/** One event, and what it wakes of those kept. */
function follow(definition: SagaDefinition, from: Situation, event: SagaEvent): Situation {
  const { machine } = definition
  const result = step(machine, from.snapshot, event)
  // A second one of its kind would be kept too; it tells nothing new, and there would be no end of
  // them.
  const kept =
    result.decision === 'deferred' &&
    !from.deferred.some((earlier) => isDeepStrictEqual(earlier, event))
      ? [...from.deferred, event]
      : from.deferred
  let situation = after(definition, { ...from, deferred: kept }, event, result)
  for (
    let index = result.from === result.to ? kept.length : 0;
    index < situation.deferred.length;
  ) {
    const woken = situation.deferred[index]!
    const again = step(machine, situation.snapshot, woken)
    if (again.decision === 'deferred') index++
    else {
      situation = after(
        definition,
        { ...situation, deferred: situation.deferred.toSpliced(index, 1) },
        woken,
        again
      )
      if (again.from !== again.to) index = 0
    }
  }
  return situation
}

/**
 * What an event has happened and is undone: an event that is ignored on purpose leaves nothing to
 * undo.
 */
function after(
  { effects = [], pointOfNoReturn }: SagaDefinition,
  from: Situation,
  event: SagaEvent,
  { snapshot, to, decision, sends, timersStarted, timersCancelled }: Step
): Situation {
  const problem = unstorable(snapshot.context)
  if (problem) throw new Error(problem)
  const pastReturn =
    from.pastReturn || (pointOfNoReturn !== undefined && isInside(to, pointOfNoReturn))
  const standing = effects.flatMap(({ doneBy, undoneBy, clearedBy = [] }, index) => {
    const happened =
      from.standing.includes(index) ||
      (event.type === doneBy.name && decision !== 'ignored' && decision !== 'deferred')
    const undone =
      sends.some(({ contract }) => contract.name === undoneBy.name) ||
      (decision !== 'deferred' && clearedBy.some(({ name }) => name === event.type))
    return happened && !undone && !pastReturn ? [index] : []
  })
  const timers = new Map([...from.timers].filter(([id]) => !timersCancelled.includes(id)))
  for (const { id, event: type } of timersStarted) timers.set(id, { type })
  return {
    snapshot,
    state: to,
    timers,
    deferred: from.deferred,
    standing,
    pastReturn,
    events: [...from.events, eventName(event.type)],
    next: [],
    explored: false
  }
}

function isInside(state: string, outer: string): boolean {
  return state === outer || state.startsWith(`${outer}.`)
}

/** Events to try a machine with. */
class Samples {
  /** All that may reach the machine but timers. */
  readonly events: readonly SagaEvent[]
  readonly #bodies: Map<string, readonly Record<string, unknown>[]>

  constructor(
    { startedBy, handles, asks = [] }: SagaDefinition,
    given: NonNullable<CheckOptions['samples']>
  ) {
    const made = [startedBy, ...handles].map(
      ({ name, schema }) => [name, [sampleOf(schema) as Record<string, unknown>]] as const
    )
    this.#bodies = new Map([
      ...made,
      ...asks.map((name) => [name, [{}]] as const),
      ...Object.entries(given)
    ])
    this.events = [...handles.map(({ name }) => name), ...asks].flatMap((type) =>
      this.of(type).map((body) => ({ ...body, type }))
    )
  }

  of(name: string): readonly Record<string, unknown>[] {
    return this.#bodies.get(name)!
  }
}

interface LooseSchema {
  type?: string
  const?: unknown
  enum?: readonly unknown[]
  anyOf?: readonly TSchema[]
  properties?: Record<string, TSchema>
  items?: TSchema
  minimum?: number
}

/**
 * A value of about a schema's shape: machines take bodies as they are, so formats and patterns do
 * not matter.
 */
function sampleOf(schema: TSchema): unknown {
  const {
    type,
    const: constant,
    enum: values,
    anyOf,
    properties = {},
    items,
    minimum
  } = schema as LooseSchema
  if (constant !== undefined) return constant
  if (values) return values[0]
  if (anyOf?.[0]) return sampleOf(anyOf[0])
  if (type === 'object')
    return Object.fromEntries(
      Object.entries(properties).map(([name, property]) => [name, sampleOf(property)])
    )
  if (type === 'array') return items ? [sampleOf(items)] : []
  if (type === 'integer' || type === 'number') return Math.max(minimum ?? 1, 1)
  if (type === 'boolean') return true
  return type === 'null' ? null : 'sample'
}

import type {
  AnyMachineSnapshot,
  AnyStateMachine,
  AnyStateNode,
  AnyTransitionDefinition,
  EventObject,
  StateValue
} from 'xstate'
import { statesOf } from '../define.ts'
import { scopeOf, type ActionData, type Move } from './move.ts'
import { activeNodes, restIn, snapshotIn, type Rest } from './state.ts'

// XState works out at every event what a transition leaves and enters, and makes a snapshot for
// every assignment: 7 µs a step and a quarter of all that an order allocates. Here XState only
// says which transition an event takes, and its effects are planned once; machines with more to
// them are left to XState.

/**
 * What a transition from a state does: the actions of the states it leaves, its own, and those of
 * the states it enters.
 */
interface Plan {
  actions: readonly PlannedAction[]
  to: Rest
  /** The same states are active afterwards. */
  stays: boolean
}

interface PlannedAction {
  type: string
  params: unknown
  builtin: Builtin | undefined
}

/** How XState writes an action of its own: a function that carries what it does. */
interface Builtin {
  type: string
  assignment?: Assigner | Record<string, unknown>
  resolve(
    scope: unknown,
    snapshot: AnyMachineSnapshot,
    args: object,
    params: unknown,
    action: Builtin,
    extra: { internalQueue: EventObject[] }
  ): [AnyMachineSnapshot, unknown]
}

type Assigner = (args: object, params: unknown) => Record<string, unknown>

interface MachinePlans {
  start: Plan | undefined
  /** By the path of the state before. */
  transitions: Map<string, Map<AnyTransitionDefinition, Plan | undefined>>
}

const known = new WeakMap<AnyStateMachine, MachinePlans | null>()

/** The first move of an instance; undefined when only XState can make it. */
export function planStart(machine: AnyStateMachine, input: unknown): Move | undefined {
  const plan = plansOf(machine)?.start
  if (!plan) return undefined
  const { context } = machine.config as { context?: unknown }
  const { self } = scopeOf(machine)
  const given: unknown =
    typeof context === 'function' ? context({ input, self, spawn: refuseToSpawn }) : (context ?? {})
  // A copy, as XState makes one.
  return follow(plan, machine, snapshotIn(plan.to, { ...(given as object) }), {
    type: 'xstate.init',
    input
  } as EventObject)
}

/** What an event does to an instance; undefined when only XState can tell. */
export function planMove(
  machine: AnyStateMachine,
  before: AnyMachineSnapshot,
  event: EventObject
): Move | undefined {
  const plans = plansOf(machine)
  if (!plans) return undefined
  const transition = machine.getTransitionData(before, event)[0]
  if (!transition) return { snapshot: before, actions: [] }
  const { path } = restIn(machine, before.value)
  let ofState = plans.transitions.get(path)
  if (!ofState) plans.transitions.set(path, (ofState = new Map()))
  if (!ofState.has(transition))
    ofState.set(transition, planOf(machine, activeNodes(before), transition))
  const plan = ofState.get(transition)
  return plan && follow(plan, machine, before, event)
}

function follow(
  { actions: planned, to, stays }: Plan,
  machine: AnyStateMachine,
  before: AnyMachineSnapshot,
  event: EventObject
): Move | undefined {
  const { self, system } = scopeOf(machine)
  const actions: ActionData[] = []
  let context = before.context as Record<string, unknown>
  for (const { type, params: given, builtin } of planned) {
    const params: unknown = typeof given === 'function' ? given({ context, event }) : given
    if (!builtin) actions.push({ type, params })
    else if (builtin.assignment)
      context = {
        ...context,
        ...assigned(
          builtin.assignment,
          { context, event, self, system, spawn: refuseToSpawn },
          params
        )
      }
    else {
      const internalQueue: EventObject[] = []
      const [, resolved] = builtin.resolve(
        scopeOf(machine),
        before,
        { context, event, self, system },
        params,
        builtin,
        { internalQueue }
      )
      // It is raised at once, and the machine goes on with it.
      if (internalQueue.length > 0) return undefined
      actions.push({ type: builtin.type, params: resolved })
    }
  }
  return {
    snapshot: stays && context === before.context ? before : snapshotIn(to, context),
    actions
  }
}

function assigned(
  assignment: Assigner | Record<string, unknown>,
  args: object,
  params: unknown
): Record<string, unknown> {
  if (typeof assignment === 'function') return assignment(args, params)
  return Object.fromEntries(
    Object.entries(assignment).map(([key, value]) => [
      key,
      typeof value === 'function'
        ? (value as (args: object, params: unknown) => unknown)(args, params)
        : value
    ])
  )
}

function refuseToSpawn(): never {
  throw new Error('A saga starts no actors: send a command and wait for its event instead')
}

function plansOf(machine: AnyStateMachine): MachinePlans | undefined {
  let plans = known.get(machine)
  if (plans === undefined) {
    const simple = statesOf(machine.root).every(
      ({ type, always, invoke }) =>
        (type === 'atomic' || type === 'compound') && !always?.length && invoke.length === 0
    )
    const entered = [machine.root, ...defaultsOf(machine.root)]
    plans = simple
      ? {
          start: planFor(machine, entered.flatMap(enteredByDefault), entered.at(-1)!, false),
          transitions: new Map()
        }
      : null
    known.set(machine, plans)
  }
  return plans ?? undefined
}

/**
 * The states that XState's algorithm leaves and enters (SCXML, "microstep"), for one active leaf
 * and one target.
 */
function planOf(
  machine: AnyStateMachine,
  active: readonly AnyStateNode[],
  { source, target: targets, actions, reenter }: AnyTransitionDefinition
): Plan | undefined {
  const leaf = active.find(({ type }) => type === 'atomic')!
  if (!targets?.length) return planFor(machine, actions, leaf, true)
  const [target, ...more] = targets as AnyStateNode[]
  const domain =
    !reenter && (target === source || isInside(target!, source))
      ? source
      : ancestorsOf(target!).find((ancestor) => isInside(source, ancestor))
  if (more.length > 0 || !domain) return undefined
  const left = active.filter((node) => isInside(node, domain)).toSorted((a, b) => b.order - a.order)
  const outer = ancestorsOf(target!)
    .filter((ancestor) => isInside(ancestor, domain))
    .toReversed()
  const inner = target === domain ? defaultsOf(target) : [target!, ...defaultsOf(target!)]
  const next = inner.at(-1) ?? leaf
  return planFor(
    machine,
    [
      ...left.flatMap(({ exit }) => exit),
      ...actions,
      ...outer.flatMap(({ entry }) => entry),
      ...inner.flatMap(enteredByDefault)
    ],
    next,
    next === leaf
  )
}

function planFor(
  machine: AnyStateMachine,
  actions: readonly unknown[],
  leaf: AnyStateNode,
  stays: boolean
): Plan | undefined {
  const planned = actions.map((action) => plannedAction(machine, action))
  if (!planned.every((action) => action !== undefined)) return undefined
  return { actions: planned, to: restIn(machine, valueOf(leaf)), stays }
}

/** Undefined: an action with which XState does more than a plan can say. */
function plannedAction(machine: AnyStateMachine, action: unknown): PlannedAction | undefined {
  const { type, params } =
    typeof action === 'function'
      ? { type: action.name || '(anonymous)' }
      : typeof action === 'string'
        ? { type: action }
        : (action as ActionData)
  const implementation: unknown =
    typeof action === 'function'
      ? action
      : (machine.implementations.actions as Record<string, unknown>)[type]
  if (typeof implementation !== 'function' || !('resolve' in implementation))
    return { type, params, builtin: undefined }
  const builtin = implementation as unknown as Builtin
  return ['xstate.assign', 'xstate.raise', 'xstate.cancel'].includes(builtin.type)
    ? { type, params, builtin }
    : undefined
}

/** The states that are entered inside one because it says so. */
function defaultsOf(node: AnyStateNode): AnyStateNode[] {
  const first = node.type === 'compound' ? (node.initial.target[0] as AnyStateNode) : undefined
  return first ? [first, ...defaultsOf(first)] : []
}

function enteredByDefault({ entry, initial }: AnyStateNode): unknown[] {
  return [...entry, ...initial.actions]
}

/** From the inside out. */
function ancestorsOf({ parent }: AnyStateNode): AnyStateNode[] {
  return parent ? [parent, ...ancestorsOf(parent)] : []
}

function isInside(node: AnyStateNode, ancestor: AnyStateNode): boolean {
  return ancestorsOf(node).includes(ancestor)
}

function valueOf({ path }: AnyStateNode): StateValue {
  return (
    path.reduceRight<StateValue | undefined>(
      (inner, key) => (inner === undefined ? key : { [key]: inner }),
      undefined
    ) ?? {}
  )
}

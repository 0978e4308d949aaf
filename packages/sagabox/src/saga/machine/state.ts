import type { AnyMachineSnapshot, AnyStateMachine, AnyStateNode, StateValue } from 'xstate'

/** `{ Suspend: 'takingPayment' }` -> `Suspend.takingPayment` */
export function pathOf(value: StateValue): string {
  if (typeof value === 'string') return value
  let path = ''
  for (const key of Object.keys(value)) {
    const child = value[key]
    const isLeaf =
      child === undefined || (typeof child === 'object' && Object.keys(child).length === 0)
    path += `${path === '' ? '' : ','}${key}${isLeaf ? '' : `.${pathOf(child)}`}`
  }
  return path
}

/** `Suspend.takingPayment` -> `Suspend` */
export function statusOf(path: string): string {
  return path.split('.', 1)[0]!
}

/** The state that an instance is in, and all around it. */
export function activeNodes(snapshot: AnyMachineSnapshot): AnyStateNode[] {
  const { _nodes: nodes } = snapshot as { _nodes: AnyStateNode[] }
  return nodes
}

/** A state that instances rest in. */
export interface Rest {
  path: string
  /**
   * A snapshot in this state. Finding a state's nodes costs as much as a step, and they are the
   * same for every instance in it.
   */
  template: AnyMachineSnapshot
}

const rests = new WeakMap<AnyStateMachine, Map<string, Rest>>()

/** @throws Error when the machine has no such state */
export function restIn(machine: AnyStateMachine, value: StateValue): Rest {
  let known = rests.get(machine)
  if (!known) rests.set(machine, (known = new Map()))
  const path = pathOf(value)
  let rest = known.get(path)
  if (!rest) {
    const template = machine.resolveState({ value, context: {} })
    // XState would go on in the first of the states inside it.
    if (pathOf(template.value) !== path)
      throw new Error(`${path} is not a state to rest in: it holds others`)
    known.set(path, (rest = { path, template }))
  }
  return rest
}

/** A snapshot of an instance in this state. */
export function snapshotIn({ template }: Rest, context: unknown): AnyMachineSnapshot {
  return { ...template, context } as AnyMachineSnapshot
}

/**
 * Rebuilds the snapshot that was stored as plain data.
 * @throws Error when the machine has no such state
 */
export function restore(
  machine: AnyStateMachine,
  value: unknown,
  context: unknown
): AnyMachineSnapshot {
  return snapshotIn(restIn(machine, value as StateValue), context)
}

import type { AnyMachineSnapshot, AnyStateMachine, AnyStateNode, StateValue } from 'xstate'
import type { PendingTimer, SagaDefinition, SagaSnapshot } from '../define.ts'
import { EXPECTED_DELAY, isDelay } from '../delay.ts'
import { eventName } from '../machine/states.ts'
import { activeNodes, pathOf, restore } from '../machine/state.ts'
import type { SagaRow } from '../store/rows.ts'
import { SagaboxError } from '../../messaging/errors/sagabox-error.ts'

/**
 * No machine of this process can move an instance. It is retried: a copy of the service with the
 * right version may take the message, now or when its dead letter is sent again.
 */
export class Stranded extends SagaboxError {
  override readonly name = 'Stranded'
  override readonly code = 'STRANDED'
}

export function versionOf({ version = 1 }: SagaDefinition): number {
  return version
}

/** The machine of a version, today's or one that is kept. */
export function machineOf(
  definition: SagaDefinition,
  version: number
): AnyStateMachine | undefined {
  return version === versionOf(definition) ? definition.machine : definition.previous?.[version]
}

/**
 * The saga as an instance of a version sees it; undefined when that version's machine is not here.
 */
export function ofVersion(definition: SagaDefinition, version: number): SagaDefinition | undefined {
  const machine = machineOf(definition, version)
  return machine && { ...definition, machine, version }
}

/** The saga in today's version and in all that are kept. */
export function allVersions(definition: SagaDefinition): SagaDefinition[] {
  return [
    definition,
    ...Object.entries(definition.previous ?? {}).map(([version, machine]) => ({
      ...definition,
      machine,
      version: Number(version)
    }))
  ]
}

export interface Resumed {
  machine: AnyStateMachine
  snapshot: AnyMachineSnapshot
  /** What the row has instead, once the instance was migrated. */
  migrated?: Pick<SagaRow, 'machine_version' | 'timers'>
}

/**
 * Finds the machine that moves an instance: of another version than today's, `migrate` brings it
 * here, and where it does not, the machine of its own version goes on.
 * @param now from which the timers of a migrated instance's new state count
 * @throws Stranded, which says what to do
 */
export function resume(definition: SagaDefinition, row: SagaRow, now: Date): Resumed {
  const { saga_id: sagaId, state, value, context, machine_version: version } = row
  const today = versionOf(definition)
  const instance = `${definition.name} saga ${sagaId}`
  const moved = version === today ? undefined : migrate(definition, row, instance, now)
  if (moved) return moved
  const machine = machineOf(definition, version)
  if (!machine && version > today)
    throw new Stranded(
      `${instance} is on version ${version} of its machine, and this process has version ${today}: run version ${version}`
    )
  if (!machine)
    throw new Stranded(
      `${instance} is on version ${version} of its machine, in ${state}: keep that machine under previous, or let migrate bring it to version ${today}`
    )
  try {
    return { machine, snapshot: restore(machine, value, context) }
  } catch (error) {
    throw new Stranded(
      `${instance} is in ${pathOf(value as StateValue)}, which version ${version} of its machine lacks: raise the version, and keep the machine that has it under previous or let migrate bring the instance over`,
      { cause: error }
    )
  }
}

function migrate(
  definition: SagaDefinition,
  { value, context, timers, machine_version: from }: SagaRow,
  instance: string,
  now: Date
): Resumed | undefined {
  const { machine } = definition
  const to = versionOf(definition)
  try {
    const given: SagaSnapshot = { value: value as StateValue, context, timers }
    const moved = definition.migrate?.(given, from)
    if (!moved) return undefined
    if (typeof moved.context !== 'object' || moved.context === null)
      throw new Error('expected { value, context }, or undefined to leave the instance as it is')
    const snapshot = restore(
      machine,
      machine.resolveState({ value: moved.value, context: {} }).value,
      moved.context
    )
    return {
      machine,
      snapshot,
      migrated: {
        machine_version: to,
        timers: carriedOver(machine, snapshot, moved.timers ?? timers, now)
      }
    }
  } catch (error) {
    throw new Stranded(
      `${instance} cannot be migrated from version ${from} to ${to}, in ${pathOf(value as StateValue)}: ${(error as Error).message}`,
      { cause: error }
    )
  }
}

/**
 * A timer for each `after` of the active states: the one that ran under the same delay, wherever
 * the state is now, or a new one.
 */
export function carriedOver(
  machine: AnyStateMachine,
  snapshot: AnyMachineSnapshot,
  timers: readonly PendingTimer[],
  now: Date
): PendingTimer[] {
  const left = [...timers]
  const delays = new Map(
    activeNodes(snapshot).flatMap((node) =>
      node.after.map(({ eventType, delay }) => [eventType, { node, delay }] as const)
    )
  )
  return [...delays].map(([event, { node, delay }]) => {
    const running =
      left.find(({ id }) => id === event) ??
      left.find((timer) => eventName(timer.event) === eventName(event))
    if (!running)
      return {
        id: event,
        event,
        dueAt: new Date(now.getTime() + delayMs(machine, node, delay, snapshot)).toISOString()
      }
    left.splice(left.indexOf(running), 1)
    return { ...running, id: event, event }
  })
}

function delayMs(
  machine: AnyStateMachine,
  node: AnyStateNode,
  delay: AnyStateNode['after'][number]['delay'],
  { context }: AnyMachineSnapshot
): number {
  const known =
    typeof delay === 'string' ? (machine.implementations.delays[delay] ?? Number(delay)) : delay
  const ms =
    typeof known === 'function'
      ? known({ context, event: { type: 'xstate.init' } } as never, undefined)
      : known
  if (!isDelay(ms))
    throw new Error(
      `the delay ${String(delay)} of ${node.id} is ${String(ms)}; expected ${EXPECTED_DELAY}`
    )
  return ms
}

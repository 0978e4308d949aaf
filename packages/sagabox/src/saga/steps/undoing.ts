import type { State, Transitions } from '../build-machine.ts'
import {
  absolute,
  note,
  sayUndo,
  stepsOf,
  undoable,
  type Parts,
  type Path,
  type Toolbox
} from './parts.ts'
import type { PlannedStep } from './plan.ts'
import { stands, stood, undone, type Known } from './progress.ts'

/**
 * The state in which what was done is undone, the last first; one state inside it for each step
 * that can be. Undefined when none can.
 */
export function undoing(parts: Parts, tools: Toolbox): State<Known, string> | undefined {
  const steps = stepsOf(parts)
  const all = undoable(steps)
  if (all.length === 0) return undefined
  const on: Record<string, Transitions<Known>> = {}
  for (const step of steps) {
    const { name, done, refused, undo } = step
    on[done.name] = undo
      ? { actions: [...note(tools, step), tools.set((context) => stood(step, context))] }
      : tools.ignore(`${name} leaves nothing to undo`)
    if (refused) on[refused.name] = tools.ignore('it is being undone')
    if (undo) on[undo.undone.name] = tools.ignore(`it is not the turn of ${name}`)
  }
  for (const { event, set } of parts.extras)
    on[event.name] = set ? { actions: note(tools, { set }) } : tools.ignore('it is being undone')
  if (parts.cancel !== undefined) on[parts.cancel] = tools.ignore('it is being undone')
  return {
    initial: all[0]!.name,
    on,
    states: Object.fromEntries(all.map((step) => [step.name, stateOf(step, all, parts, tools)]))
  }
}

function stateOf(
  step: PlannedStep,
  all: readonly PlannedStep[],
  parts: Parts,
  tools: Toolbox
): State<Known, string> {
  const { name, done, undo } = step
  const actions = [tools.set((context) => undone(step, context))]
  const others = all.filter((other) => other !== step)
  const next: Path[] = others.map((other) => ({
    target: other.name,
    actions,
    guard: ({ context }) => stands(other.name, context)
  }))
  return {
    entry: sayUndo(tools, step),
    on: {
      [undo!.undone.name]: [...next, { target: absolute(parts, 'failed'), actions }],
      // The command may have overtaken what it is to undo: only one that follows this undoes it.
      [done.name]: { actions: [...note(tools, step), sayUndo(tools, step)] }
    },
    after: { [undo!.again]: { target: name, reenter: true } }
  }
}

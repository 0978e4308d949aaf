import type { State, Transitions } from '../build-machine.ts'
import {
  absolute,
  giveUp,
  note,
  reasonOr,
  say,
  sayUndo,
  stepsOf,
  type GivingUp,
  type Parts,
  type Path,
  type Toolbox
} from './parts.ts'
import type { PlannedStep, Stage } from './plan.ts'
import {
  answered,
  entered,
  stands,
  triedAgain,
  waitsFor,
  waitsOnlyFor,
  type Known
} from './progress.ts'

type On = Record<string, Transitions<Known>>

/** The state in which the steps are done, one state inside it for each stage. */
export function doing(parts: Parts, tools: Toolbox): State<Known, string> {
  const { stages, within, cancel, extras } = parts
  const on: On = {}
  for (const { undo } of stepsOf(parts))
    if (undo) on[undo.undone.name] = tools.ignore('nobody asked to undo it')
  for (const { event, set, send, giveUp: why } of extras) {
    const actions = [...note(tools, { set }), ...(send ? [say(tools, send)] : [])]
    on[event.name] =
      why === undefined ? { actions } : giveUp(parts, tools, { actions, reason: () => why })
  }
  if (cancel !== undefined) on[cancel] = giveUp(parts, tools, { reason: reasonOr('cancelled') })
  return {
    initial: stages[0]!.name,
    on,
    ...(within !== undefined && {
      after: {
        [within]: giveUp(parts, tools, { reason: () => `not completed within ${inWords(within)}` })
      }
    }),
    states: Object.fromEntries(stages.map((stage) => [stage.name, stateOf(stage, parts, tools)]))
  }
}

function stateOf(stage: Stage, parts: Parts, tools: Toolbox): State<Known, string> {
  const { stages } = parts
  const on: On = {}
  for (const [index, other] of stages.entries())
    for (const step of other.steps) {
      const at = index - stages.indexOf(stage)
      Object.assign(on, at === 0 ? asked(step, stage, parts, tools) : notAsked(step, at < 0, tools))
    }
  return {
    entry: stage.steps.map((step) =>
      say(tools, step.do, (context) => waitsFor(step.name, context))
    ),
    on,
    ...patience(stage, parts, tools),
    ...(stage.steps.every(({ when }) => when) && {
      always: {
        ...onward(stage, parts, tools),
        guard: ({ context }) => context.steps.waiting.length === 0
      }
    })
  }
}

/** The answers of a step that it is the turn of. */
function asked(step: PlannedStep, stage: Stage, parts: Parts, tools: Toolbox): On {
  const { name, done, refused } = step
  const further = onward(stage, parts, tools)
  const goOn = { ...further, actions: [...note(tools, step), ...further.actions] }
  const isRefused: Omit<GivingUp, 'guard'> = {
    stage,
    refused: step,
    reason: reasonOr(`${name} was refused`)
  }
  if (stage.steps.length === 1)
    return {
      [done.name]: goOn,
      ...(refused && { [refused.name]: giveUp(parts, tools, isRefused) })
    }
  return {
    [done.name]: [
      { ...goOn, guard: ({ context }) => waitsOnlyFor(name, context) },
      {
        actions: [...note(tools, step), tools.set((context) => answered(step, context))],
        guard: ({ context }) => waitsFor(name, context)
      },
      ...passed(step, tools)
    ],
    ...(refused && {
      [refused.name]: [
        ...giveUp(parts, tools, { ...isRefused, guard: (context) => waitsFor(name, context) }),
        tools.ignore(`${name} is not waited for`)
      ]
    })
  }
}

/** The answers of a step whose turn has passed, or has not come. */
function notAsked(step: PlannedStep, isPassed: boolean, tools: Toolbox): On {
  const { name, done, refused, undo } = step
  const early = `it is not yet the turn of ${name}`
  return {
    [done.name]: isPassed ? passed(step, tools) : undo ? tools.defer() : tools.ignore(early),
    ...(refused && {
      [refused.name]: tools.ignore(isPassed ? `the turn of ${name} has passed` : early)
    })
  }
}

/** What a step's `done` does once the saga has gone on without it, or with it. */
export function passed({ name, undo, when, ...step }: PlannedStep, tools: Toolbox): Path[] {
  const twice = tools.ignore(`${name} was done before`)
  if (!when) return [twice]
  if (!undo) return [tools.ignore(`${name} was done before, or left out`)]
  return [
    { ...twice, guard: ({ context }) => stands(name, context) },
    // It was left out, and somebody has done it.
    { actions: [...note(tools, step), sayUndo(tools, { ...step, name, undo, when })] }
  ]
}

function patience(
  stage: Stage,
  parts: Parts,
  tools: Toolbox
): Pick<State<Known, string>, 'after'> | undefined {
  const { within, retry = 0, name } = stage
  if (within === undefined) return undefined
  const again: Path = {
    target: name,
    reenter: true,
    actions: tools.set((context) => triedAgain(context)),
    guard: ({ context }) => context.steps.tries < retry
  }
  const reason = () => `${name} was not answered within ${inWords(within)}`
  return {
    after: { [within]: [...(retry > 0 ? [again] : []), ...giveUp(parts, tools, { stage, reason })] }
  }
}

/** To the stage after this, or to the end. */
function onward(stage: Stage, parts: Parts, tools: Toolbox): Path & { actions: readonly object[] } {
  const { stages } = parts
  const next = stages[stages.indexOf(stage) + 1]
  if (!next) return { target: absolute(parts, 'completed'), actions: [] }
  return { target: next.name, actions: [tools.set((context) => entered(next, context))] }
}

function inWords(duration: string | number): string {
  return typeof duration === 'number' ? `${duration} ms` : duration
}

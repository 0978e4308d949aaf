import { END } from '../define.ts'
import type { State, Transitions } from '../build-machine.ts'
import { passed } from './doing.ts'
import {
  absolute,
  giveUp,
  note,
  reasonOr,
  say,
  stepsOf,
  type Parts,
  type Toolbox
} from './parts.ts'
import { stood, told, type Known } from './progress.ts'

type On = Record<string, Transitions<Known>>

/** All steps are done. */
export function completed(parts: Parts, tools: Toolbox): State<Known, string> {
  const on: On = ignored(parts, tools, 'it is completed')
  for (const step of stepsOf(parts)) on[step.done.name] = passed(step, tools)
  if (parts.cancel !== undefined && parts.cancelCompleted)
    on[parts.cancel] = giveUp(parts, tools, {
      stage: parts.stages.at(-1)!,
      reason: reasonOr('cancelled')
    })
  return {
    tags: END,
    ...(parts.completed && { entry: say(tools, parts.completed) }),
    on
  }
}

/** Nothing is in effect any more, as far as anybody has told. */
export function failed(parts: Parts, tools: Toolbox): State<Known, string> {
  const on: On = ignored(parts, tools, 'it has failed')
  for (const step of stepsOf(parts)) {
    const { name, done, undo } = step
    on[done.name] = undo
      ? {
          target: absolute(parts, `undoing.${name}`),
          actions: [...note(tools, step), tools.set((context) => stood(step, context))]
        }
      : tools.ignore(`${name} leaves nothing to undo`)
  }
  return {
    tags: END,
    ...(parts.failed && {
      entry: [
        say(tools, parts.failed, ({ steps }) => !steps.told),
        tools.set((context) => told(context))
      ]
    }),
    on
  }
}

function ignored(parts: Parts, tools: Toolbox, why: string): On {
  const others = stepsOf(parts).flatMap(({ refused, undo }) => [refused, undo?.undone])
  const names = [...others, ...parts.extras.map(({ event }) => event)]
    .filter((contract) => contract !== undefined)
    .map((contract) => contract.name)
  return Object.fromEntries(
    [...names, ...(parts.cancel === undefined ? [] : [parts.cancel])].map((event) => [
      event,
      tools.ignore(why)
    ])
  )
}

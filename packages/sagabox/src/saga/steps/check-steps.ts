import type { Contract } from '../../messaging/message/message.ts'
import { InvalidSaga } from '../define.ts'
import { milliseconds } from '../../messaging/message/duration.ts'
import { stagesOf } from './plan.ts'
import type { All, Duration, Patience, Step } from './step.ts'

type Written = Step<never> | All<never>

/** What is said of all steps together. */
interface About {
  readonly startedBy: Contract
  readonly context?: unknown
  readonly within?: Duration
  readonly cancelBy?: string | Contract
  readonly cancelCompleted?: boolean
  readonly completed?: unknown
  readonly failed?: unknown
  readonly handles?: readonly Contract[]
  readonly on?: object
}

const NAME = /^[A-Za-z]\w*$/

/**
 * Holds the steps of a saga to what steps can be.
 * @throws InvalidSaga that says what was found, and what to do
 */
export function checkSteps(saga: string, written: readonly Written[], about: About): void {
  const problem =
    problemOfSteps(written) ??
    problemOfNames(written) ??
    problemOfPatience(written, about) ??
    problemOfExtras(about) ??
    problemOfContext(about) ??
    problemOfEvents(written, about)
  if (problem !== undefined) throw new InvalidSaga(saga, problem)
}

function problemOfSteps(written: readonly Written[]): string | undefined {
  if (!Array.isArray(written) || written.length === 0)
    return 'steps gave no steps: expected a list of at least one'
  if (written.some((one) => 'all' in one && one.all.length === 0))
    return 'all([]) stands among its steps: expected steps in it'
  for (const step of stepsOf(written)) {
    const problem = problemOfStep(step)
    if (problem !== undefined) return `step ${step.name}: ${problem}`
  }
  return undefined
}

function problemOfStep(step: Step<never>): string | undefined {
  const { name, done, refused, undo, undone, undoAgain } = step
  if (!NAME.test(name))
    return 'its name becomes that of states: expected letters, digits and _, with a letter first'
  const roles = { done, refused, undone }
  for (const [role, contract] of Object.entries(roles))
    if ((role === 'done' || contract !== undefined) && contract?.kind !== 'event')
      return `${role} is ${inWords(contract)}: expected the contract of an event`
  for (const [role, says] of Object.entries({ do: step.do, undo })) {
    const contract = says && 'compose' in says ? says.contract : says
    if ((role === 'do' || says !== undefined) && contract?.kind !== 'command')
      return `${role} is ${inWords(contract)}: expected the contract of a command, or Command.with(…)`
  }
  if (undo && !undone)
    return 'it has undo and no undone: add the event by which its receiver tells that it is undone'
  if (undone && !undo)
    return `it has undone and no undo: add the command that ${undone.name} answers, or leave undone out`
  if (undoAgain !== undefined && !undo)
    return 'it has undoAgain and no undo: add the command to send again, or leave undoAgain out'
  return problemOfDuration('undoAgain', undoAgain)
}

function problemOfNames(written: readonly Written[]): string | undefined {
  const names = stepsOf(written).map(({ name }) => name)
  const twice = firstTwice(names)
  if (twice !== undefined)
    return `two steps have the name ${twice}: name one of them otherwise, since states are named after them`
  const states = stagesOf(written).map(({ name }) => name)
  const clash = firstTwice(states)
  if (clash !== undefined)
    return `two states would have the name ${clash}: of a step, and of steps that are in all: name the step otherwise`
  return undefined
}

function problemOfPatience(written: readonly Written[], { within }: About): string | undefined {
  for (const [index, one] of written.entries()) {
    const { name } = stagesOf(written)[index]!
    const what = 'all' in one ? `all of ${name}` : `step ${name}`
    const problem = problemOfOne(one, within)
    if (problem !== undefined) return `${what}: ${problem}`
    const inside = ('all' in one ? one.all : []).find(
      (step) => step.within !== undefined || step.retry !== undefined
    )
    if (inside)
      return `step ${inside.name}: it has within or retry, and is one of several: give them to all([…], { within, retry })`
  }
  return problemOfDuration('within', within)
}

function problemOfOne({ within, retry }: Patience, withinAll?: Duration): string | undefined {
  if (within === undefined && withinAll === undefined)
    return 'it waits for ever when nobody answers: give within to it, or to the saga'
  if (retry !== undefined && within === undefined)
    return 'it has retry and no within: say after which time it is asked again'
  if (retry !== undefined && (!Number.isSafeInteger(retry) || retry < 0))
    return `retry is ${retry}: expected how often, a whole number from 0`
  return problemOfDuration('within', within)
}

function problemOfDuration(option: string, duration: Duration | undefined): string | undefined {
  try {
    if (duration !== undefined) milliseconds(duration)
    return undefined
  } catch (error) {
    return `${option}: ${(error as Error).message}`
  }
}

function problemOfExtras({ handles = [], on = {}, cancelBy, cancelCompleted }: About) {
  for (const { name } of handles) {
    const extra = (on as Record<string, { giveUp?: unknown; set?: unknown; send?: unknown }>)[name]
    if (extra?.set === undefined && extra?.send === undefined && extra?.giveUp === undefined)
      return `it handles ${name}, and on does not say what that does: add set, send or giveUp for it`
  }
  const unheard = Object.keys(on).find((name) => handles.every((one) => one.name !== name))
  if (unheard !== undefined)
    return `on says what ${unheard} does, which never reaches it: add its contract to handles`
  if (cancelBy === '') return 'cancelBy is empty: expected the name of an event, or its contract'
  if (cancelCompleted && cancelBy === undefined)
    return 'it has cancelCompleted and no cancelBy: say which event cancels'
  return undefined
}

function problemOfContext({ startedBy, context }: About): string | undefined {
  if (context !== undefined) return undefined
  const field = ['reason', 'steps'].find((name) => name in startedBy.schema.properties)
  return field === undefined
    ? undefined
    : `${startedBy.name} has a field ${field}, which is the saga's own in a context: give it another name in context(start)`
}

/** Each event has one meaning, or a state could not decide it. */
function problemOfEvents(
  written: readonly Written[],
  { startedBy, handles = [], cancelBy }: About
): string | undefined {
  const meanings = new Map<string, string>([[startedBy.name, 'startedBy']])
  const uses: [Contract | string | undefined, string][] = [
    ...stepsOf(written).flatMap(
      ({ name, done, refused, undone }): [Contract | undefined, string][] => [
        [done, `done of step ${name}`],
        [refused, `refused of step ${name}`],
        [undone, `undone of step ${name}`]
      ]
    ),
    [cancelBy, 'cancelBy'],
    ...handles.map((contract): [Contract, string] => [contract, 'handles'])
  ]
  for (const [event, meaning] of uses) {
    if (event === undefined) continue
    const name = typeof event === 'string' ? event : event.name
    const other = meanings.get(name)
    if (other !== undefined)
      return `${name} is both ${other} and ${meaning}: expected an event of its own for each`
    meanings.set(name, meaning)
  }
  return undefined
}

function stepsOf(written: readonly Written[]): readonly Step<never>[] {
  return written.flatMap((one) => ('all' in one ? one.all : [one]))
}

function firstTwice(names: readonly string[]): string | undefined {
  return names.find((name, index) => names.indexOf(name) !== index)
}

function inWords(found: unknown): string {
  if (found === undefined) return 'not given'
  const { name, kind } = Object(found) as Partial<Contract>
  return typeof kind === 'string'
    ? `${name}, ${kind === 'event' ? 'an event' : 'a command'}`
    : typeof found === 'string'
      ? JSON.stringify(found)
      : typeof found
}

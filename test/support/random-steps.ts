// Sagas in steps, as random as they may be, of contracts that are always the same.
import fc from 'fast-check'
import Type from 'typebox'
import { contracts } from '../../packages/sagabox/src/messaging/message/contracts.ts'
import type { SagaDefinition } from '../../packages/sagabox/src/saga/define.ts'
import { defineSaga } from '../../packages/sagabox/src/saga/steps/define-saga.ts'

export interface StepSpec {
  /** Left out unless the start says otherwise. */
  isConditional: boolean
  isUndoable: boolean
  isRefusable: boolean
}

export interface StageSpec {
  steps: readonly StepSpec[]
  /** Milliseconds. */
  within: number | undefined
  retry: number
}

export interface SagaSpec {
  stages: readonly StageSpec[]
  /** Milliseconds. */
  within: number | undefined
  cancelBy: 'asked' | 'event' | undefined
  cancelCompleted: boolean
  hasExtra: boolean
}

export const MOST_STEPS = 5
export const UNDO_AGAIN_MS = 7013

const Id = Type.String({ format: 'uuid' })
const agency = contracts('agency', { correlateBy: 'id' })
const supplier = contracts('supplier', { correlateBy: 'id' })

/** `wanted` has the numbers of the steps that are not to be left out. */
export const Started = agency.event('Started', { id: Id, wanted: Type.Array(Type.Integer()) })
export const Completed = agency.event('Completed', { id: Id }, { optional: true })
export const Failed = agency.event('Failed', { id: Id, reason: Type.String() }, { optional: true })
export const Cancelled = agency.event('Cancelled', { id: Id })
export const Extra = agency.event('Extra', { id: Id })

/** What each step says and hears, by its number. */
export const OF_STEPS = Array.from({ length: MOST_STEPS }, (_, step) => ({
  Do: supplier.command(`Do${step}`, { id: Id }),
  Done: supplier.event(`Done${step}`, { id: Id }),
  Refused: supplier.event(`Refused${step}`, { id: Id, reason: Type.String() }),
  Undo: supplier.command(`Undo${step}`, { id: Id }),
  Undone: supplier.event(`Undone${step}`, { id: Id })
}))

const stepSpecs: fc.Arbitrary<StepSpec> = fc.record({
  isConditional: fc.nat(2).map((n) => n === 0),
  isUndoable: fc.nat(3).map((n) => n > 0),
  isRefusable: fc.boolean()
})

// Times that no sum of others meets: what falls due at one moment has no order.
const WITHIN_MS = [2003, 5009, 11_027]
const WITHIN_ALL_MS = [9001, 40_111]

const stageSpecs: fc.Arbitrary<StageSpec> = fc
  .record({
    steps: fc.oneof(
      { weight: 2, arbitrary: fc.array(stepSpecs, { minLength: 1, maxLength: 1 }) },
      { weight: 1, arbitrary: fc.array(stepSpecs, { minLength: 2, maxLength: 3 }) }
    ),
    within: fc.constantFrom(undefined, ...WITHIN_MS),
    retry: fc.nat(2)
  })
  .map((spec) => ({ ...spec, retry: spec.within === undefined ? 0 : spec.retry }))

export const sagaSpecs: fc.Arbitrary<SagaSpec> = fc
  .record({
    stages: fc
      .array(stageSpecs, { minLength: 1, maxLength: 4 })
      .filter((stages) => stages.flatMap(({ steps }) => steps).length <= MOST_STEPS),
    within: fc.constantFrom(undefined, ...WITHIN_ALL_MS),
    cancelBy: fc.constantFrom('asked' as const, 'event' as const, undefined),
    cancelCompleted: fc.boolean(),
    hasExtra: fc.boolean()
  })
  .map((spec) => ({
    ...spec,
    within: spec.stages.every(({ within }) => within !== undefined)
      ? spec.within
      : (spec.within ?? WITHIN_ALL_MS[0]),
    cancelCompleted: spec.cancelCompleted && spec.cancelBy !== undefined
  }))

export function nameOfStep(step: number): string {
  return `s${step}`
}

/** The number of each step, by stages. */
export function numbersOf({ stages }: SagaSpec): number[][] {
  let next = 0
  return stages.map(({ steps }) => steps.map(() => next++))
}

export function sagaOf(spec: SagaSpec, name = 'random'): SagaDefinition {
  const { stages, within, cancelBy, cancelCompleted, hasExtra } = spec
  const numbers = numbersOf(spec)
  const common = {
    startedBy: Started,
    ...(within !== undefined && { within }),
    ...(cancelBy && { cancelBy: cancelBy === 'event' ? Cancelled : 'Cancel', cancelCompleted }),
    completed: Completed,
    failed: Failed
  }
  const steps: Parameters<typeof defineSaga<typeof Started>>[1]['steps'] = ({ step, all }) =>
    stages.map((stage, index) => {
      const patience =
        stage.within === undefined ? {} : { within: stage.within, retry: stage.retry }
      const isOne = stage.steps.length === 1
      const made = stage.steps.map(({ isConditional, isUndoable, isRefusable }, at) => {
        const number = numbers[index]![at]!
        const { Do, Done, Refused, Undo, Undone } = OF_STEPS[number]!
        const options = {
          do: Do,
          done: Done,
          ...(isRefusable && { refused: Refused }),
          ...(isConditional && {
            when: ({ wanted }: { wanted: number[] }) => wanted.includes(number)
          }),
          ...(isOne && patience)
        }
        const undoing = { undo: Undo, undone: Undone, undoAgain: UNDO_AGAIN_MS }
        return isUndoable
          ? step(nameOfStep(number), { ...options, ...undoing })
          : step(nameOfStep(number), options)
      })
      return isOne ? made[0]! : all(made, patience)
    })
  return hasExtra
    ? defineSaga(name, { ...common, steps, handles: [Extra], on: { Extra: { giveUp: 'extra' } } })
    : defineSaga(name, { ...common, steps })
}

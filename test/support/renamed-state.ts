import { createMachine, type AnyStateMachine } from 'xstate'
import { orderMachine } from '../../src/saga/machine.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import type { SagaDefinition } from '../../packages/sagabox/src/saga/define.ts'
import { pathOf } from '../../packages/sagabox/src/saga/machine/state.ts'

/**
 * The order machine with `Suspend.takingPayment` called `Suspend.charging`, as somebody might
 * deploy it.
 */
export function renamedMachine(deadlineSeconds: number): AnyStateMachine {
  const { config, implementations } = orderMachine(deadlineSeconds)
  return createMachine(renamed(config) as never, implementations as never)
}

/** The order saga as if there had been one version of it. */
export function firstSaga(deadlineSeconds: number): SagaDefinition {
  const { name, machine, startedBy, handles, asks, effects, pointOfNoReturn, project } =
    orderSaga(deadlineSeconds)
  return { name, machine, startedBy, handles, asks, effects, pointOfNoReturn, project }
}

/** The same after a deploy. */
export function renamedSaga(
  changes: Partial<SagaDefinition>,
  deadlineSeconds = 30
): SagaDefinition {
  return { ...firstSaga(deadlineSeconds), machine: renamedMachine(deadlineSeconds), ...changes }
}

/** How its author moves the instances. */
export const toCharging: SagaDefinition['migrate'] = ({ value, context }) => ({
  value: pathOf(value) === 'Suspend.takingPayment' ? { Suspend: 'charging' } : value,
  context
})

function renamed(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(renamed)
  if (typeof part === 'string') return part.replace('takingPayment', 'charging')
  if (typeof part !== 'object' || part === null) return part
  return Object.fromEntries(
    Object.entries(part).map(([key, value]) => [
      key.replace('takingPayment', 'charging'),
      renamed(value)
    ])
  )
}

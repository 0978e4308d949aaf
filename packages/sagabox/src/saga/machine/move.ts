import {
  createActor,
  type AnyActorScope,
  type AnyMachineSnapshot,
  type AnyStateMachine
} from 'xstate'

/** An action as data: what the machine wants done. */
export interface ActionData {
  type: string
  params?: unknown
}

/** What a machine makes of one event. */
export interface Move {
  snapshot: AnyMachineSnapshot
  actions: ActionData[]
}

const scopes = new WeakMap<AnyStateMachine, AnyActorScope>()

/**
 * A scope in which nothing happens, one a machine: making an actor for every move would run the
 * machine's start once more.
 */
export function scopeOf(machine: AnyStateMachine): AnyActorScope {
  let scope = scopes.get(machine)
  if (!scope) {
    const self = createActor(machine)
    const nothing = () => {}
    scope = {
      self,
      system: self.system,
      id: '',
      sessionId: '',
      logger: nothing,
      defer: nothing,
      stopChild: nothing,
      emit: nothing,
      actionExecutor: nothing
    }
    scopes.set(machine, scope)
  }
  return scope
}

/** What XState's `transition()` and `initialTransition()` do, without an actor for each. */
export function moveByXState(
  machine: AnyStateMachine,
  move: (scope: AnyActorScope) => AnyMachineSnapshot
): Move {
  const scope = scopeOf(machine)
  const actions: ActionData[] = []
  scope.actionExecutor = (action) => actions.push(action)
  return { snapshot: move(scope), actions }
}

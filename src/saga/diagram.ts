import type { AnyStateNode } from 'xstate'
import { decisionBy, decisionOf } from './decision.ts'
import { END, statesOf, type SagaDefinition } from './define.ts'

export interface TransitionDescription {
  from: string
  event: string
  to: string
}

export interface MachineDescription {
  /** Paths of the states an instance can rest in. */
  states: string[]
  events: string[]
  transitions: TransitionDescription[]
  /** Mermaid source of the state diagram. */
  mermaid: string
}

/** Describes a machine from its definition: what people look at when they ask what a saga can do. */
export function describe({ machine }: SagaDefinition): MachineDescription {
  const nodes = statesOf(machine.root).slice(1)
  const transitions = nodes.flatMap(transitionsOf)
  return {
    states: nodes.filter((node) => Object.keys(node.states).length === 0).map(pathOfNode),
    events: [...new Set(transitions.map(({ event }) => event))],
    transitions,
    mermaid: ['stateDiagram-v2', ...mermaidOf(machine.root, 1), ...transitions.map(({ from, event, to }) => `  ${mermaidId(from)} --> ${mermaidId(to)}: ${event}`)].join('\n')
  }
}

/** The events that a state takes, alone or through a state around it, and does not just ignore or keep; timers by their short name. */
export function acceptedEvents({ machine }: SagaDefinition, state: string): string[] {
  const leaf = statesOf(machine.root).find((node) => pathOfNode(node) === state)
  const events = new Set<string>()
  for (let node = leaf; node; node = node.parent) for (const event of node.ownEvents) events.add(event)
  return [...new Set([...events].filter((event) => ['handled', 'guarded'].includes(decisionOf(leaf!, event))).map(eventName))]
}

/** The events of the timers that a state sets, alone or through a state around it. */
export function timersIn({ machine }: Pick<SagaDefinition, 'machine'>, state: string): string[] {
  const events: string[] = []
  const leaf = statesOf(machine.root).find((node) => pathOfNode(node) === state)
  for (let node = leaf; node; node = node.parent) {
    for (const { eventType } of node.after) events.push(eventType)
  }
  return [...new Set(events)]
}

/** Paths of the states in which an instance waits for nothing. */
export function endsOf({ machine }: SagaDefinition): string[] {
  return statesOf(machine.root)
    .filter((node) => Object.keys(node.states).length === 0 && hasEndTag(node))
    .map(pathOfNode)
}

/** Paths of the states in which an instance always has a timer: when it fires, the state that set it is left, or entered anew. */
export function timedStatesOf({ machine }: SagaDefinition): string[] {
  return statesOf(machine.root)
    .filter((node) => Object.keys(node.states).length === 0 && isTimed(node))
    .map(pathOfNode)
}

function isTimed(node: AnyStateNode): boolean {
  const delays = new Set(node.after.map(({ eventType }) => eventType))
  const leaves = [...delays].some((delay) => {
    const alternatives = node.after.filter(({ eventType }) => eventType === delay)
    return alternatives.at(-1)!.guard === undefined && alternatives.every(({ target, reenter }) => reenter || (target !== undefined && !isWithin(target[0], node)))
  })
  return leaves || (node.parent !== undefined && isTimed(node.parent))
}

function isWithin(node: AnyStateNode | undefined, outer: AnyStateNode): boolean {
  return node !== undefined && (node === outer || isWithin(node.parent, outer))
}

function hasEndTag(node: AnyStateNode): boolean {
  return node.tags.includes(END) || (node.parent !== undefined && hasEndTag(node.parent))
}

/** `xstate.after.deadline.order.Suspend` -> `after deadline` */
export function eventName(event: string): string {
  const [, delay] = /^xstate\.after\.([^.]+)\./.exec(event) ?? []
  return delay ? `after ${delay}` : event
}

function transitionsOf(node: AnyStateNode): TransitionDescription[] {
  return [...node.transitions.values()]
    .flat()
    .filter((transition) => decisionBy(transition) === 'handled')
    .map(({ eventType, target }) => ({ from: pathOfNode(node), event: eventName(eventType), to: pathOfNode(target?.[0] ?? node) }))
}

function mermaidOf(node: AnyStateNode, depth: number): string[] {
  const indent = '  '.repeat(depth)
  const lines = node.initial?.target[0] ? [`${indent}[*] --> ${mermaidId(pathOfNode(node.initial.target[0]))}`] : []
  for (const child of Object.values(node.states)) {
    const id = mermaidId(pathOfNode(child))
    if (Object.keys(child.states).length === 0) lines.push(`${indent}state "${child.key}" as ${id}`)
    else lines.push(`${indent}state "${child.key}" as ${id} {`, ...mermaidOf(child, depth + 1), `${indent}}`)
  }
  return lines
}

/** Mermaid ids may not hold dots. */
function mermaidId(path: string): string {
  return path.replaceAll('.', '_')
}

export function pathOfNode(node: AnyStateNode): string {
  return node.path.join('.')
}

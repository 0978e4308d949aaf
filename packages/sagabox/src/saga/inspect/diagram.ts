import type { AnyStateNode } from 'xstate'
import { decisionBy } from '../machine/decision.ts'
import { statesOf, type SagaDefinition } from '../define.ts'
import { eventName, pathOfNode, restingStates } from '../machine/states.ts'

/** By which event it goes from where to where. */
export interface TransitionDescription {
  from: string
  event: string
  to: string
}

/** What a saga can do, for people. */
export interface MachineDescription {
  /** Paths of the states an instance can rest in. */
  states: string[]
  events: string[]
  transitions: TransitionDescription[]
  /** Mermaid source of the state diagram. */
  mermaid: string
}

/**
 * Describes a machine from its definition: what people look at when they ask what a saga can do.
 */
export function describe(definition: SagaDefinition): MachineDescription {
  const { machine } = definition
  const nodes = statesOf(machine.root).slice(1)
  const transitions = nodes.flatMap(transitionsOf)
  return {
    states: restingStates(definition),
    events: [...new Set(transitions.map(({ event }) => event))],
    transitions,
    mermaid: [
      'stateDiagram-v2',
      ...mermaidOf(machine.root, 1),
      ...transitions.map(
        ({ from, event, to }) => `  ${mermaidId(from)} --> ${mermaidId(to)}: ${event}`
      )
    ].join('\n')
  }
}

function transitionsOf(node: AnyStateNode): TransitionDescription[] {
  return [...[...node.transitions.values()].flat(), ...(node.always ?? [])]
    .filter((transition) => decisionBy(transition) === 'handled')
    .map(({ eventType, target }) => ({
      from: pathOfNode(node),
      event: eventName(eventType) || 'always',
      to: pathOfNode(target?.[0] ?? node)
    }))
}

function mermaidOf(node: AnyStateNode, depth: number): string[] {
  const indent = '  '.repeat(depth)
  const lines = node.initial?.target[0]
    ? [`${indent}[*] --> ${mermaidId(pathOfNode(node.initial.target[0]))}`]
    : []
  for (const child of Object.values(node.states)) {
    const id = mermaidId(pathOfNode(child))
    if (Object.keys(child.states).length === 0) lines.push(`${indent}state "${child.key}" as ${id}`)
    else
      lines.push(
        `${indent}state "${child.key}" as ${id} {`,
        ...mermaidOf(child, depth + 1),
        `${indent}}`
      )
  }
  return lines
}

/** Mermaid ids may not hold dots. */
function mermaidId(path: string): string {
  return path.replaceAll('.', '_')
}

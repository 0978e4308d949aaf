import dagre from '@dagrejs/dagre'
import { setImmediate as breathe } from 'node:timers/promises'
import type { AnyStateMachine, AnyStateNode } from 'xstate'
import { contractSentBy, statesOf } from '../define.ts'
import { decisionBy } from '../machine/decision.ts'
import { eventName, pathOfNode } from '../machine/states.ts'
import { delayMsOf } from './delays.ts'
import { clipped, type Point, type Rect } from './geometry.ts'

/** A state where the picture has it; x and y are its upper left corner. */
export interface DrawnState extends Rect {
  /** `Suspend.reservingStock` */
  path: string
  kind: 'atomic' | 'compound' | 'parallel' | 'final'
  description: string | null
}

/** A transition as a line from border to border. */
export interface DrawnEdge {
  from: string
  to: string
  /** Null: it happens by itself (`always`). */
  event: string | null
  /** Of a timer with a fixed delay, ms. */
  delayMs: number | null
  isTimer: boolean
  points: Point[]
  /** The middle of its label. */
  labelAt: Point
  /** Names of the contracts that the transition itself sends. */
  sends: string[]
}

export interface Picture {
  width: number
  height: number
  states: DrawnState[]
  edges: DrawnEdge[]
}

/** Of a text, as wide as a common font of 13 px draws it. */
const CHARACTER = 7.5
const HEIGHT = 36
const PADDING = 16
/** Above the states inside another, for its name. */
const TITLE = 28
const LABEL_HEIGHT = 16
const GAP = { nodesep: 32, ranksep: 44, edgesep: 16, marginx: 0, marginy: 0 }
/** Of a loop beside its state. */
const LOOP = 24

interface Transition {
  from: AnyStateNode
  to: AnyStateNode
  eventType: string
  sends: string[]
}

/** A state with the places of those inside it, from its own upper left corner. */
interface Box {
  node: AnyStateNode
  width: number
  height: number
  /** Room at its right side, for its own loops and their labels. */
  beside: number
  inner: { box: Box; x: number; y: number }[]
  /** Lines between states inside it, or from inside of one to inside of another. */
  lines: Map<Transition, Line>
}

interface Line {
  points: Point[]
  labelAt: Point
}

/**
 * Places the states of a machine and draws its transitions. States inside another are placed first,
 * by themselves: dagre takes no edge from or to a state that holds others.
 */
export async function draw(machine: AnyStateMachine): Promise<Picture> {
  const transitions = statesOf(machine.root).slice(1).flatMap(transitionsOf)
  const whole = await place(machine.root, transitions)
  const states = new Map<AnyStateNode, DrawnState>()
  const lines = new Map<Transition, Line>()
  spread(whole, { x: 0, y: 0 }, states, lines)
  states.delete(machine.root)
  const loops = new Map<AnyStateNode, number>()
  const edges = transitions.map((transition): DrawnEdge => {
    const { from, to, eventType, sends } = transition
    const points = lineOf(transition, states, lines.get(transition)?.points)
    const before = loops.get(from) ?? 0
    if (from === to) loops.set(from, before + 1)
    const labelAt =
      from === to
        ? besideOf(states.get(from)!, eventType, before)
        : (lines.get(transition)?.labelAt ?? middleOf(points))
    return {
      from: pathOfNode(from),
      to: pathOfNode(to),
      event: eventName(eventType) || null,
      delayMs: delayMsOf(machine, from, eventType),
      isTimer: eventType.startsWith('xstate.after.'),
      points: points.map(rounded),
      labelAt: rounded(labelAt),
      sends
    }
  })
  const all = [...states.values()].map((state) => ({
    ...state,
    ...rounded(state),
    width: Math.round(state.width),
    height: Math.round(state.height)
  }))
  return {
    width: Math.ceil(whole.width + LOOP),
    height: Math.ceil(whole.height),
    states: all,
    edges
  }
}

function transitionsOf(node: AnyStateNode): Transition[] {
  return [...[...node.transitions.values()].flat(), ...(node.always ?? [])]
    .filter((transition) => decisionBy(transition) === 'handled')
    .map(({ eventType, target, actions }) => ({
      from: node,
      to: target?.[0] ?? node,
      eventType,
      sends: actions.map(contractSentBy).flatMap((contract) => (contract ? [contract.name] : []))
    }))
}

/** A state with all inside it, as small as it can be. */
async function place(node: AnyStateNode, transitions: readonly Transition[]): Promise<Box> {
  const children = Object.values(node.states) as AnyStateNode[]
  const title = textWidth(node.key) + 2 * PADDING
  const loops = transitions.filter(({ from, to }) => from === node && to === node)
  const beside = loops.length === 0 ? 0 : LOOP + widest(loops)
  const least = Math.max(HEIGHT, loops.length * LABEL_HEIGHT)
  if (children.length === 0)
    return { node, width: title, height: least, beside, inner: [], lines: new Map() }
  const boxes: Box[] = []
  for (const child of children) boxes.push(await place(child, transitions))
  // A machine of a hundred states takes a quarter of a second: others go on in between.
  await breathe()
  const graph = new dagre.graphlib.Graph()
  graph.setGraph({ rankdir: 'TB', ...GAP })
  graph.setDefaultEdgeLabel(() => ({}))
  for (const [index, box] of boxes.entries())
    graph.setNode(String(index), { width: box.width + box.beside, height: box.height })
  // One line for all between two states: dagre takes ten times as long for three hundred of them.
  const lifted = new Map<string, Transition[]>()
  for (const transition of transitions) {
    const v = children.findIndex((child) => isWithin(transition.from, child))
    const w = children.findIndex((child) => isWithin(transition.to, child))
    if (v < 0 || w < 0 || v === w) continue
    const key = `${v} ${w}`
    lifted.set(key, [...(lifted.get(key) ?? []), transition])
  }
  for (const [key, some] of lifted) {
    const [v, w] = key.split(' ') as [string, string]
    graph.setEdge(v, w, { width: widest(some), height: some.length * LABEL_HEIGHT, labelpos: 'c' })
  }
  dagre.layout(graph)
  const { width = 0, height = 0 } = graph.graph()
  const isRoot = node.parent === undefined
  const top = isRoot ? 0 : TITLE
  const side = isRoot ? 0 : PADDING
  const inner = boxes.map((box, index) => {
    const { x, y } = graph.node(String(index)) as Point
    // Whole pixels, so that lines end exactly on borders.
    return {
      box,
      x: Math.round(x - (box.width + box.beside) / 2) + side,
      y: Math.round(y - box.height / 2) + top
    }
  })
  const lines = new Map(
    [...lifted].flatMap(([key, some]) => {
      const [v, w] = key.split(' ') as [string, string]
      const {
        points = [],
        x = 0,
        y = 0
      } = graph.edge(v, w) as Partial<Point> & { points?: Point[] }
      const moved = points.map((point) => ({ x: point.x + side, y: point.y + top }))
      // One below the other, in the room that dagre has left for them.
      const first = y + top - ((some.length - 1) * LABEL_HEIGHT) / 2
      return some.map((transition, index) => {
        const labelAt = { x: x + side, y: first + index * LABEL_HEIGHT }
        return [transition, { points: moved, labelAt }] as const
      })
    })
  )
  return {
    node,
    width: Math.ceil(Math.max(width + 2 * side, title)),
    height: Math.max(Math.ceil(height) + top + side, least),
    beside,
    inner,
    lines
  }
}

/** Moves all from where they are in their own box to where they are in the whole. */
function spread(
  { node, width, height, inner, lines: own }: Box,
  at: Point,
  states: Map<AnyStateNode, DrawnState>,
  lines: Map<Transition, Line>
): void {
  states.set(node, {
    path: pathOfNode(node),
    kind: kindOf(node),
    description: node.description ?? null,
    ...at,
    width,
    height
  })
  const moved = ({ x, y }: Point): Point => ({ x: x + at.x, y: y + at.y })
  for (const [transition, { points, labelAt }] of own)
    lines.set(transition, { points: points.map(moved), labelAt: moved(labelAt) })
  for (const { box, x, y } of inner) spread(box, { x: x + at.x, y: y + at.y }, states, lines)
}

function lineOf(
  { from, to }: Transition,
  states: ReadonlyMap<AnyStateNode, DrawnState>,
  lifted: readonly Point[] | undefined
): Point[] {
  const [start, end] = [states.get(from)!, states.get(to)!]
  if (from === to) return loopAt(start)
  if (isWithin(to, from)) return straight(start, end)
  if (isWithin(from, to)) return straight(end, start).toReversed()
  return clipped([centerOf(start), ...(lifted ?? []), centerOf(end)], start, end)
}

/** From the upper border of a state straight down, or from its left border, to one inside it. */
function straight(outer: Rect, inner: Rect): Point[] {
  const x = inner.x + inner.width / 2
  return [
    { x, y: outer.y },
    { x, y: inner.y }
  ]
}

/** Where the label of a state's loop is, of which there are some before. */
function besideOf({ x, y, width }: Rect, eventType: string, before: number): Point {
  return {
    x: x + width + LOOP + textWidth(eventName(eventType)) / 2,
    y: y + (before + 0.5) * LABEL_HEIGHT
  }
}

function widest(some: readonly Transition[]): number {
  return Math.max(...some.map(({ eventType }) => textWidth(eventName(eventType))))
}

function loopAt({ x, y, width, height }: Rect): Point[] {
  const right = x + width
  const [upper, lower] = [y + height * 0.25, y + height * 0.75]
  return [
    { x: right, y: upper },
    { x: right + LOOP * 0.75, y: upper },
    { x: right + LOOP * 0.75, y: lower },
    { x: right, y: lower }
  ]
}

function centerOf({ x, y, width, height }: Rect): Point {
  return { x: x + width / 2, y: y + height / 2 }
}

function middleOf(points: readonly Point[]): Point {
  const length = (index: number) =>
    Math.hypot(points[index + 1]!.x - points[index]!.x, points[index + 1]!.y - points[index]!.y)
  const lengths = points.slice(1).map((_, index) => length(index))
  let left = lengths.reduce((sum, one) => sum + one, 0) / 2
  for (const [index, one] of lengths.entries()) {
    if (left <= one && one > 0) {
      const [a, b] = [points[index]!, points[index + 1]!]
      return { x: a.x + ((b.x - a.x) * left) / one, y: a.y + ((b.y - a.y) * left) / one }
    }
    left -= one
  }
  return points[0]!
}

function rounded({ x, y }: Point): Point {
  return { x: Math.round(x * 100) / 100, y: Math.round(y * 100) / 100 }
}

function textWidth(text: string): number {
  return Math.ceil(text.length * CHARACTER)
}

function kindOf({ type }: AnyStateNode): DrawnState['kind'] {
  return type === 'compound' || type === 'parallel' || type === 'final' ? type : 'atomic'
}

function isWithin(node: AnyStateNode | undefined, outer: AnyStateNode): boolean {
  return node !== undefined && (node === outer || isWithin(node.parent, outer))
}

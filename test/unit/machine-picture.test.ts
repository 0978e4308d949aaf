// Pictures of machines: those of the examples as they were looked at, and what holds for any.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import t, { type Test } from 'tap'
import { createMachine, type AnyStateMachine } from 'xstate'
import { trip } from '../../docs/examples/trip.ts'
import {
  draw,
  type DrawnState,
  type Picture
} from '../../packages/sagabox/src/saga/picture/layout.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { ROOT } from '../support/program.ts'

t.setTimeout(300_000)

/** As exact as the picture is written, px. */
const EXACT = 0.02

for (const [name, machine] of [
  ['order', orderSaga(30).machine],
  ['trip', trip.machine]
] as const)
  t.test(`the picture of the ${name} machine is the one that was looked at`, async (t) => {
    const picture = await draw(machine)
    holds(t, picture)
    const file = join(ROOT, `test/pictures/${name}.svg`)
    const svg = svgOf(picture)
    // UPDATE_PICTURES=1 writes them anew: look at them before they are committed.
    if (process.env['UPDATE_PICTURES'] === '1' || !existsSync(file)) writeFileSync(file, svg)
    t.equal(readFileSync(file, 'utf8'), svg)
  })

interface Shape {
  states: Record<string, Shape>
}

const keys = ['a', 'b', 'aLongerName', 'd'] as const
const inside = (of: fc.Arbitrary<Shape>, minKeys = 0) =>
  fc.dictionary(fc.constantFrom(...keys), of, { minKeys, maxKeys: 4 })
const leaf: fc.Arbitrary<Shape> = fc.constant({ states: {} })
const middle = inside(leaf).map((states) => ({ states }))
const deep = inside(fc.oneof(leaf, middle)).map((states) => ({ states }))

/** States in states, and events between any two of them, themselves included. */
const machines = fc
  .tuple(
    inside(fc.oneof(leaf, deep), 1),
    fc.array(fc.tuple(fc.nat(), fc.nat(), fc.constantFrom('E', 'LongerEvent', '*', 5000)), {
      maxLength: 12
    })
  )
  .map(([states, moves]) => machineOf({ states }, moves))

function machineOf(
  root: Shape,
  moves: readonly (readonly [number, number, string | number])[]
): AnyStateMachine {
  const all: { path: string[]; config: Record<string, unknown> }[] = []
  const build = ({ states }: Shape, path: string[]): Record<string, unknown> => {
    const names = Object.keys(states)
    const config: Record<string, unknown> = { id: ['m', ...path].join('.'), on: {}, after: {} }
    if (path.length > 0) all.push({ path, config })
    if (names.length > 0)
      Object.assign(config, {
        initial: names[0],
        states: Object.fromEntries(names.map((key) => [key, build(states[key]!, [...path, key])]))
      })
    return config
  }
  const config = build(root, [])
  for (const [from, to, event] of moves) {
    const { config: source } = all[from % all.length]!
    const target = `#${['m', ...all[to % all.length]!.path].join('.')}`
    const into = source[typeof event === 'number' ? 'after' : 'on'] as Record<string, unknown[]>
    into[event] = [...(into[event] ?? []), { target, reenter: true }]
  }
  return createMachine(config as never) as AnyStateMachine
}

t.test('of any machine: nothing overlaps, all is inside, and lines end on borders', async (t) => {
  const problems: string[] = []
  await fc.assert(
    fc.asyncProperty(machines, async (machine) => {
      problems.splice(0, Infinity, ...problemsOf(await draw(machine)))
      return problems.length === 0
    }),
    { numRuns: 300 }
  )
  t.same(problems, [])
})

t.test('a machine of a hundred states is drawn in time', async (t) => {
  const names = Array.from({ length: 10 }, (_, index) => `s${index}`)
  const inner = () => ({ states: Object.fromEntries(names.map((name) => [name, { states: {} }])) })
  const states = Object.fromEntries(names.map((name) => [name, inner()]))
  const moves = Array.from({ length: 300 }, (_, n) => [n * 7, n * 13 + 5, `E${n % 9}`] as const)
  const machine = machineOf({ states }, moves)
  const began = performance.now()
  holds(t, await draw(machine))
  t.comment(`drawn in ${(performance.now() - began).toFixed()} ms`)
})

function holds(t: Test, picture: Picture): void {
  t.same(problemsOf(picture), [])
}

function problemsOf({ states, edges, width, height }: Picture): string[] {
  const byPath = new Map(states.map((state) => [state.path, state]))
  const overlapping = states.flatMap((one, index) =>
    states
      .slice(index + 1)
      .filter((other) => !isNested(one, other) && overlap(one, other))
      .map((other) => `${one.path} overlaps ${other.path}`)
  )
  const outside = states
    .filter(({ path }) => path.includes('.'))
    .filter((state) => !contains(byPath.get(parentOf(state.path))!, state))
    .map(({ path }) => `${path} is not inside ${parentOf(path)}`)
  const beyond = states
    .filter((one) => !contains({ x: 0, y: 0, width, height }, one))
    .map(({ path }) => `${path} is beyond the picture`)
  const loose = edges.flatMap(({ from, to, event, points, labelAt }) => [
    ...(onBorder(byPath.get(from)!, points[0]!) ? [] : [`${event} begins off ${from}`]),
    ...(onBorder(byPath.get(to)!, points.at(-1)!) ? [] : [`${event} ends off ${to}`]),
    ...([...points, labelAt].every(({ x, y }) => Number.isFinite(x) && Number.isFinite(y))
      ? []
      : [`${event} is nowhere`])
  ])
  return [...overlapping, ...outside, ...beyond, ...loose]
}

type Rect = Pick<DrawnState, 'x' | 'y' | 'width' | 'height'>

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('.'))
}

function isNested(one: DrawnState, other: DrawnState): boolean {
  return other.path.startsWith(`${one.path}.`) || one.path.startsWith(`${other.path}.`)
}

function overlap(a: Rect, b: Rect): boolean {
  return a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
}

function contains(outer: Rect, inner: Rect): boolean {
  return (
    inner.x >= outer.x &&
    inner.y >= outer.y &&
    inner.x + inner.width <= outer.x + outer.width &&
    inner.y + inner.height <= outer.y + outer.height
  )
}

function onBorder(rect: Rect, { x, y }: { x: number; y: number }): boolean {
  const [right, bottom] = [rect.x + rect.width, rect.y + rect.height]
  const near = (a: number, b: number) => Math.abs(a - b) <= EXACT
  const within = (value: number, low: number, high: number) =>
    value >= low - EXACT && value <= high + EXACT
  return (
    ((near(x, rect.x) || near(x, right)) && within(y, rect.y, bottom)) ||
    ((near(y, rect.y) || near(y, bottom)) && within(x, rect.x, right))
  )
}

function svgOf({ states, edges, width, height }: Picture): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" font-family="sans-serif" font-size="12">`,
    ...states.map(
      ({ path, kind, x, y, width: wide, height: high }) =>
        `<rect x="${x}" y="${y}" width="${wide}" height="${high}" fill="${kind === 'compound' ? '#f4f4f4' : '#fff'}" stroke="#333"/><text x="${x + 8}" y="${y + 18}">${path.split('.').at(-1)!}</text>`
    ),
    ...edges.map(
      ({ points, labelAt, event, isTimer }) =>
        `<polyline points="${points.map(({ x, y }) => `${x},${y}`).join(' ')}" fill="none" stroke="${isTimer ? '#a60' : '#06a'}"/><text x="${labelAt.x}" y="${labelAt.y}" text-anchor="middle" font-size="10">${event}</text>`
    ),
    '</svg>',
    ''
  ].join('\n')
}

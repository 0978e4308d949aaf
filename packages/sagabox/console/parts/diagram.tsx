import type { Definition, DiagramEdge, DiagramState, Point } from '../types.ts'

interface Shown {
  definition: Definition
  /** States in the order in which they were entered. */
  path: readonly string[]
  current: string
  /** States that can still come. */
  reachable: readonly string[]
  /** What a timer will bring, and in how long: `18 s`. */
  countdown?: { to: string; text: string } | undefined
}

/** The machine as a picture: what was, what is, and what can still be. */
export function Diagram({ definition, path, current, reachable, countdown }: Shown) {
  const { states } = definition
  const edges = unique(definition.edges)
  const numbers = new Map<string, number[]>()
  path.forEach((state, index) => numbers.set(state, [...(numbers.get(state) ?? []), index + 1]))
  const taken = new Set(path.slice(1).map((to, index) => `${path[index]} ${to}`))
  const [left, top, right, bottom] = boundsOf(states, edges)
  const toneOf = ({ path: state }: DiagramState) =>
    isIn(current, state)
      ? 'current'
      : numbers.has(state) || path.some((one) => isIn(one, state))
        ? 'past'
        : reachable.some((one) => isIn(one, state))
          ? 'open'
          : 'closed'
  // What holds others lies below them.
  const ordered = [...states].toSorted((a, b) => depth(a.path) - depth(b.path))
  return (
    <figure class="diagram" tabIndex={0} aria-label="State diagram">
      <svg
        viewBox={`${left} ${top} ${right - left} ${bottom - top}`}
        width={right - left}
        height={bottom - top}
        role="img"
        aria-label={`${definition.saga}: now in ${current}; passed ${path.join(', ') || 'nothing'}; still possible: ${reachable.join(', ') || 'nothing'}`}
      >
        <defs>
          {(['closed', 'taken', 'open'] as const).map((tone) => (
            <marker
              key={tone}
              id={`tip-${tone}`}
              class={tone}
              viewBox="0 0 8 8"
              refX="7"
              refY="4"
              markerWidth="7"
              markerHeight="7"
              orient="auto-start-reverse"
            >
              <path d="M0 0 8 4 0 8z" />
            </marker>
          ))}
        </defs>
        {ordered
          .filter((state) => isHolder(state, states))
          .map((state) => (
            <Box key={state.path} state={state} tone={toneOf(state)} isHolder />
          ))}
        {edges.map((edge, index) => (
          <Edge
            key={index}
            edge={edge}
            tone={toneOfEdge(edge, taken, current, reachable)}
            countdown={
              countdown && edge.isTimer && isIn(current, edge.from) && isIn(countdown.to, edge.to)
                ? countdown.text
                : undefined
            }
          />
        ))}
        {ordered
          .filter((state) => !isHolder(state, states))
          .map((state) => (
            <Box
              key={state.path}
              state={state}
              tone={toneOf(state)}
              numbers={numbers.get(state.path)}
            />
          ))}
      </svg>
      <figcaption class="legend">
        <span class="key past">passed, with its number</span>
        <span class="key current">now</span>
        <span class="key open">can still come</span>
        <span class="key closed">cannot any more</span>
      </figcaption>
    </figure>
  )
}

function Box({
  state,
  tone,
  numbers = [],
  isHolder: holds = false
}: {
  state: DiagramState
  tone: string
  numbers?: readonly number[] | undefined
  isHolder?: boolean
}) {
  const { x, y, width, height, kind, description, path } = state
  const name = path.split('.').at(-1)!
  return (
    <g class={`state ${tone} ${holds ? 'holder' : ''} ${kind}`} data-state={path} data-tone={tone}>
      <title>{description ? `${path}: ${description}` : path}</title>
      <rect x={x} y={y} width={width} height={height} rx={kind === 'final' ? height / 2 : 6} />
      {holds ? (
        <text x={x + 8} y={y + 15}>
          {name}
        </text>
      ) : (
        <text x={x + width / 2} y={y + height / 2} text-anchor="middle" dominant-baseline="central">
          {name}
        </text>
      )}
      {numbers.length > 0 ? (
        <g class="number">
          <rect x={x - 8} y={y - 9} width={10 + textOf(numbers).length * 7} height={18} rx={9} />
          <text
            x={x - 3 + (textOf(numbers).length * 7) / 2}
            y={y}
            text-anchor="middle"
            dominant-baseline="central"
          >
            {textOf(numbers)}
          </text>
        </g>
      ) : null}
    </g>
  )
}

function Edge({
  edge,
  tone,
  countdown
}: {
  edge: DiagramEdge
  tone: string
  countdown?: string | undefined
}) {
  const { event, delayMs, points, labelAt, sends } = edge
  const label = countdown
    ? `in ${countdown}`
    : edge.isTimer && delayMs !== null
      ? `after ${delayText(delayMs)}`
      : shortened(event ?? '')
  return (
    <g class={`edge ${tone} ${countdown ? 'due' : ''}`} data-tone={tone}>
      <title>
        {`${edge.from} → ${edge.to}${event ? ` on ${event}` : ''}${sends.length > 0 ? `, sends ${sends.join(', ')}` : ''}`}
      </title>
      <path d={curveThrough(points)} marker-end={`url(#tip-${tone})`} />
      <text x={labelAt.x} y={labelAt.y} text-anchor="middle" dominant-baseline="central">
        {label}
      </text>
    </g>
  )
}

function textOf(numbers: readonly number[]): string {
  return numbers.length > 4
    ? `${numbers.slice(0, 3).join(' ')} … ${numbers.at(-1)}`
    : numbers.join(' ')
}

function shortened(text: string): string {
  return text.length > 26 ? `${text.slice(0, 25)}…` : text
}

function delayText(ms: number): string {
  return ms < 60_000
    ? `${ms / 1000} s`
    : ms < 3_600_000
      ? `${Math.round(ms / 60_000)} min`
      : `${Math.round(ms / 3_600_000)} h`
}

function toneOfEdge(
  edge: DiagramEdge,
  taken: ReadonlySet<string>,
  current: string,
  reachable: readonly string[]
): string {
  const { from, to } = edge
  if ([...taken].some((step) => isStep(step, edge))) return 'taken'
  const canLeave = isIn(current, from) || reachable.some((one) => isIn(one, from))
  return canLeave && reachable.some((one) => isIn(one, to)) ? 'open' : 'closed'
}

/** Transitions of one event differ by their guards, and look the same. */
function unique(edges: readonly DiagramEdge[]): DiagramEdge[] {
  return [...new Map(edges.map((edge) => [`${edge.from} ${edge.to} ${edge.event}`, edge])).values()]
}

/** Whether a state is another, or inside it. */
function isIn(state: string, other: string): boolean {
  return state === other || state.startsWith(`${other}.`)
}

function isStep(step: string, { from, to }: DiagramEdge): boolean {
  const [before = '', after = ''] = step.split(' ')
  return isIn(before, from) && isIn(after, to)
}

function isHolder({ path }: DiagramState, states: readonly DiagramState[]): boolean {
  return states.some((one) => one.path.startsWith(`${path}.`))
}

function depth(path: string): number {
  return path.split('.').length
}

function curveThrough(points: readonly Point[]): string {
  const [first, ...rest] = points
  if (!first) return ''
  if (rest.length < 2)
    return `M${first.x} ${first.y}${rest.map(({ x, y }) => `L${x} ${y}`).join('')}`
  // Through the middles, bent at the points.
  const bends = rest.slice(0, -1).map(({ x, y }, index) => {
    const next = rest[index + 1]!
    const isLast = index === rest.length - 2
    return `Q${x} ${y} ${isLast ? next.x : (x + next.x) / 2} ${isLast ? next.y : (y + next.y) / 2}`
  })
  return `M${first.x} ${first.y}${bends.join('')}`
}

function boundsOf(
  states: readonly DiagramState[],
  edges: readonly DiagramEdge[]
): [number, number, number, number] {
  const points = [
    ...states.flatMap(({ x, y, width, height }) => [
      { x: x - 12, y: y - 14 },
      { x: x + width + 12, y: y + height + 8 }
    ]),
    ...edges.flatMap(({ points: own, labelAt, event }) => [
      ...own,
      { x: labelAt.x - halfOf(event), y: labelAt.y - 10 },
      { x: labelAt.x + halfOf(event), y: labelAt.y + 10 }
    ])
  ]
  const xs = points.map(({ x }) => x)
  const ys = points.map(({ y }) => y)
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)]
}

/** Half of how wide a label is drawn, px. */
function halfOf(event: string | null): number {
  return 12 + shortened(event ?? '').length * 3.3
}

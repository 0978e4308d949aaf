export interface Point {
  x: number
  y: number
}

/** x and y are its upper left corner. */
export interface Rect extends Point {
  width: number
  height: number
}

/**
 * What of a line is outside of both rectangles, from the border of the one that it begins in to the
 * border of the one that it ends in, neither of which is inside the other.
 * @param line begins in `start` and ends in `end`
 */
export function clipped(line: readonly Point[], start: Rect, end: Rect): Point[] {
  const left = leaving(line, start)
  return leaving(left.toReversed(), end).toReversed()
}

/** From where a line leaves a rectangle for the last time. */
function leaving(line: readonly Point[], rect: Rect): Point[] {
  const last = line.findLastIndex((point) => isInside(point, rect))
  const [from, to] = [line[last]!, line[last + 1]]
  if (to === undefined) return [from]
  return [crossing(from, to, rect), ...line.slice(last + 1)]
}

function isInside({ x, y }: Point, rect: Rect): boolean {
  return x >= rect.x && x <= rect.x + rect.width && y >= rect.y && y <= rect.y + rect.height
}

/** Where the way from a point inside to one outside crosses the border. */
function crossing(inside: Point, outside: Point, rect: Rect): Point {
  const [dx, dy] = [outside.x - inside.x, outside.y - inside.y]
  const share = (edge: number, from: number, by: number) => (by === 0 ? 1 : (edge - from) / by)
  const shares = [
    dx > 0 ? share(rect.x + rect.width, inside.x, dx) : dx < 0 ? share(rect.x, inside.x, dx) : 1,
    dy > 0 ? share(rect.y + rect.height, inside.y, dy) : dy < 0 ? share(rect.y, inside.y, dy) : 1
  ]
  const way = Math.max(0, Math.min(1, ...shares))
  return { x: inside.x + dx * way, y: inside.y + dy * way }
}

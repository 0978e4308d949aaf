/** More changes than this, and two names have nothing to do with each other. */
const MOST_CHANGES = 3

/** The one of some names that was probably meant: the fewest letters differ. */
export function nearest(given: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((name) => ({ name, changes: changesBetween(given, name) }))
    .filter(({ name, changes }) => changes <= Math.min(MOST_CHANGES, name.length / 2))
    .toSorted((one, other) => one.changes - other.changes)
  return best?.name
}

/** Letters to put in, take away or replace. */
function changesBetween(one: string, other: string): number {
  let before = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (let row = 1; row <= one.length; row++) {
    const here = [row]
    for (let column = 1; column <= other.length; column++)
      here[column] = Math.min(
        before[column]! + 1,
        here[column - 1]! + 1,
        before[column - 1]! + (one[row - 1] === other[column - 1] ? 0 : 1)
      )
    before = here
  }
  return before.at(-1)!
}

/** A time in words, to one unit: `47 s`, `6 min`, `3 h`, `2 d`. @param ms negative counts as 0 */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000))
  if (seconds < 90) return `${seconds} s`
  if (seconds < 90 * 60) return `${Math.round(seconds / 60)} min`
  if (seconds < 36 * 3600) return `${Math.round(seconds / 3600)} h`
  return `${Math.round(seconds / 86_400)} d`
}

/** `once`, `twice`, `3 times` */
export function times(count: number): string {
  return count === 1 ? 'once' : count === 2 ? 'twice' : `${count} times`
}

const ORDINALS = ['first', 'second', 'third', 'fourth', 'fifth', 'sixth', 'seventh', 'eighth']
const CARDINALS = ['one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight']

/** `third of three` */
export function turn(which: number, of: number): string {
  return `${ORDINALS[which - 1] ?? `number ${which}`} of ${CARDINALS[of - 1] ?? of}`
}

/** `1 message`, `12 messages` */
export function many(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? '' : 's'}`
}

/** `a`, `a and b`, `a, b and c` */
export function listed(items: readonly string[], last = 'and'): string {
  return items.length < 2
    ? (items[0] ?? '')
    : `${items.slice(0, -1).join(', ')} ${last} ${items.at(-1)!}`
}

/** What a person calls a timer: `after deadline` -> `its deadline`, `after 60000` -> `its timer of 60 s` */
export function timerName(event: string): string {
  const delay = event.replace(/^after /, '')
  if (/^\d+[a-z]*$/.test(delay))
    return `its timer of ${/^\d+$/.test(delay) ? span(Number(delay)) : delay}`
  if (/^[a-z]+$/i.test(delay)) return `its ${delay}`
  return `its timer (${event})`
}

import { QUICK_WAYS } from '../../packages/sagabox/src/quick-ways.ts'
import type { keptLog } from './kept-log.ts'

/** SAGABOX_PLAIN=one-sync,plans (or all): those go the plain way in this process. */
export function goPlainAsTold(): void {
  for (const name of (process.env['SAGABOX_PLAIN'] ?? '').split(',').filter(Boolean)) {
    const ways = QUICK_WAYS.filter((way) => name === 'all' || way.name === name)
    const known = QUICK_WAYS.map((way) => way.name).join(', ')
    if (ways.length === 0)
      throw new Error(`SAGABOX_PLAIN names ${name}; expected all, or some of ${known}`)
    for (const way of ways) way.isSwitchedOff = true
  }
}

/** All ways in this process, and in those that it starts. */
export function goAllPlain(): void {
  process.env['SAGABOX_PLAIN'] = 'all'
  goPlainAsTold()
}

/** What was logged about ways that are not open. */
export function toldOfWays({ lines }: ReturnType<typeof keptLog>): object[] {
  return lines.filter(({ fields }) => 'way' in fields).map(({ fields }) => fields)
}

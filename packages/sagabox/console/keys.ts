import { signal } from '@preact/signals'
import { go } from './place.ts'

/** Whether the help is open. */
export const isHelpOpen = signal(false)

export const KEYS: readonly (readonly [string, string])[] = [
  ['/', 'search'],
  ['j k', 'next, previous row'],
  ['Enter', 'open it'],
  ['r', 'retry: opens its dialog'],
  ['n', 'retry, then the next: opens its dialog'],
  ['g o', 'go to the overview'],
  ['g s', 'go to the sagas'],
  ['g d', 'go to the dead letters'],
  ['?', 'this help']
]

const PLACES: Record<string, string> = { o: '?view=overview', s: '?view=sagas', d: '?view=letters' }
/** After `g`, so long, ms. */
const SECOND_KEY_MS = 1500
let wentAt = 0

addEventListener('keydown', (event) => {
  const { key, target, ctrlKey, metaKey, altKey } = event
  const isWriting = (target as Element).closest?.('input, textarea, select, dialog') != null
  if (ctrlKey || metaKey || altKey || isWriting) return
  const link = PLACES[key]
  if (link && event.timeStamp - wentAt < SECOND_KEY_MS) {
    wentAt = -SECOND_KEY_MS
    event.preventDefault()
    go(link)
  } else if (key === 'g') wentAt = event.timeStamp
  else if (key === '/') {
    event.preventDefault()
    document.querySelector<HTMLInputElement>('#search')?.focus()
  } else if (key === '?') isHelpOpen.value = true
  else if (key === 'j' || key === 'k') move(key === 'j' ? 1 : -1)
  else if (key === 'r' || key === 'n') {
    event.preventDefault()
    document.querySelector<HTMLButtonElement>(`[data-key="${key}"]:enabled`)?.click()
  }
})

/** Puts the focus on the link of the row after, or before, the one that has it. */
function move(by: number): void {
  const links = [...document.querySelectorAll('[data-row]')].flatMap((row) => {
    const link = row.querySelector('a')
    return link ? [link] : []
  })
  const at = links.findIndex((link) => link.closest('[data-row]')!.contains(document.activeElement))
  const next = at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by
  links[Math.max(0, Math.min(links.length - 1, next))]?.focus()
}

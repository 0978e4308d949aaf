import { signal } from '@preact/signals'

/** The time, to the second, while the page is seen. */
export const now = signal(Date.now())

setInterval(() => {
  if (!document.hidden) now.value = Date.now()
}, 1000)
document.addEventListener('visibilitychange', () => (now.value = Date.now()))

/** `4 min`, `2 h 5 min`, `340 ms`. */
export function duration(ms: number): string {
  const s = Math.round(ms / 1000)
  if (ms < 950) return `${Math.max(0, Math.round(ms))} ms`
  if (s < 60) return ms < 9950 && ms % 1000 >= 50 ? `${(ms / 1000).toFixed(1)} s` : `${s} s`
  if (s < 3600) return two(Math.floor(s / 60), 'min', s % 60, 's', s < 600)
  if (s < 86_400) return two(Math.floor(s / 3600), 'h', Math.floor((s % 3600) / 60), 'min', true)
  return two(Math.floor(s / 86_400), 'd', Math.floor((s % 86_400) / 3600), 'h', s < 864_000)
}

function two(big: number, unit: string, small: number, smaller: string, isExact: boolean): string {
  return small > 0 && isExact ? `${big} ${unit} ${small} ${smaller}` : `${big} ${unit}`
}

/** `4 min ago`, `in 18 s`. */
export function fromNow(time: number, at: number): string {
  const ms = time - at
  if (Math.abs(ms) < 1000) return 'now'
  const text = duration(Math.round(Math.abs(ms) / 1000) * 1000)
  return ms > 0 ? `in ${text}` : `${text} ago`
}

import { signal } from '@preact/signals'

/** Where somebody is: the page's query, which holds view, filters and selection. */
export const place = signal(new URLSearchParams(location.search))

export type Query = Readonly<Record<string, string | number | null | undefined>>

addEventListener('popstate', () => (place.value = new URLSearchParams(location.search)))

/** One value of it; empty when it is not there. */
export function at(name: string): string {
  return place.value.get(name) ?? ''
}

/** A link to a place, from where the page is: it works below any prefix. */
export function linkTo(query: Query): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(query))
    if (value != null && value !== '') search.set(name, String(value))
  return `?${search.toString()}`
}

/** The place that somebody is at, with some of it changed. */
export function here(changes: Query): string {
  return linkTo({ ...Object.fromEntries(place.value), ...changes })
}

/** Goes to a place; as another step back, or in the place of this one. */
export function go(link: string, replaces = false): void {
  if (link === location.search) return
  history[replaces ? 'replaceState' : 'pushState'](null, '', link)
  const before = at('view')
  place.value = new URLSearchParams(link)
  if (!replaces && before !== at('view')) scrollTo(0, 0)
}

/** Plain clicks on links to places stay on the page; others are the browser's. */
addEventListener('click', (event) => {
  const link = (event.target as Element).closest?.('a')
  const isPlain =
    event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
  if (!link || !isPlain || event.defaultPrevented) return
  const to = link.getAttribute('href') ?? ''
  if (!to.startsWith('?') || link.target || link.hasAttribute('download')) return
  event.preventDefault()
  go(to)
})

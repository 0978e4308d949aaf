import { useEffect, useRef, useState } from 'preact/hooks'
import { Problem } from './ask.ts'

/** How often things are looked at, ms. */
export const DETAIL_MS = 2000
export const LIST_MS = 5000
export const OVERVIEW_MS = 30_000
const SLOWEST_MS = 60_000
/** So many looks without a change, and it is looked at less often. */
const QUIET_LOOKS = 30

export interface Watched<T> {
  readonly value: T | undefined
  /** When the value was true. */
  readonly at: number | undefined
  /** Why it could not be renewed. */
  readonly problem: Problem | undefined
  /** Looks again at once. */
  refresh(): Promise<void>
}

interface Held<T> {
  key: string
  value?: T | undefined
  at?: number | undefined
  problem?: Problem | undefined
}

/**
 * Looks at something again and again: not while the page is hidden, less often when that fails or
 * nothing changes. What was seen last stays, with its age.
 * @param key of what is looked at; null: nothing is
 */
export function useWatched<T>(
  key: string | null,
  look: () => Promise<T>,
  every: number
): Watched<T> {
  const [held, hold] = useState<Held<T>>({ key: '' })
  const now = useRef<() => Promise<void>>(async () => {})
  useEffect(() => {
    if (key === null) return
    let timer = 0
    let wait = every
    let same = 0
    let last = ''
    let ended = false
    let looking: Promise<void> | undefined
    const next = () => {
      clearTimeout(timer)
      if (!ended && !document.hidden) timer = window.setTimeout(() => void run(), wait)
    }
    const lookOnce = async () => {
      try {
        const value = await look()
        if (ended) return
        const text = JSON.stringify(value) ?? ''
        same = text === last ? same + 1 : 0
        wait = same > QUIET_LOOKS ? Math.min(SLOWEST_MS, wait * 1.5) : every
        last = text
        hold({ key, value, at: Date.now() })
      } catch (error) {
        if (ended) return
        const problem = error instanceof Problem ? error : new Problem(0, String(error))
        wait = Math.min(SLOWEST_MS, Math.max(wait, every) * 2)
        hold((before) => ({ ...(before.key === key ? before : { key }), problem }))
      }
    }
    const run = (): Promise<void> => {
      looking ??= lookOnce().finally(() => {
        looking = undefined
        next()
      })
      return looking
    }
    const awake = () => {
      if (document.hidden) clearTimeout(timer)
      else {
        wait = every
        void run()
      }
    }
    const active = () => {
      if (wait <= every) return
      same = 0
      wait = every
      next()
    }
    now.current = async () => {
      await looking
      await run()
    }
    document.addEventListener('visibilitychange', awake)
    addEventListener('keydown', active)
    addEventListener('pointerdown', active)
    if (!document.hidden) void run()
    return () => {
      ended = true
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', awake)
      removeEventListener('keydown', active)
      removeEventListener('pointerdown', active)
    }
  }, [key, every])
  const current = held.key === key ? held : undefined
  return {
    value: current?.value,
    at: current?.at,
    problem: current?.problem,
    refresh: () => now.current()
  }
}

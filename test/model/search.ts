import fc from 'fast-check'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { modelCase, type ModelCase } from './case.ts'
import type { World } from './world.ts'

/** Runs at the same time: most of a run is waiting. */
const LANES = 8

export interface Found {
  seed: number
  file: string
  faults: string[]
  played: ModelCase
}

/**
 * Plays random cases; each lane has a seed of its own, counted from `seed`.
 * @returns the smallest case that failed, saved
 */
export async function search(world: World, runs: number, seed: number, progress: (done: number) => void): Promise<Found | undefined> {
  let done = 0
  let failing: number | undefined
  let found: Found | undefined
  await Promise.all(
    Array.from({ length: Math.min(LANES, runs) }, async (_, lane) => {
      const property = fc.asyncProperty(modelCase, async (played) => {
        // The lane that has found something makes it smaller; the others end.
        if (failing !== undefined && failing !== lane) return
        const faults = await world.play(played)
        progress(++done)
        if (faults.length === 0) return
        if (failing === undefined) {
          save(seed + lane, played, faults)
          console.error(`A case of seed ${seed + lane} went wrong, and is made smaller: ${faults.join('; ')}`)
        }
        failing ??= lane
        throw new Error(faults.join('\n'))
      })
      const numRuns = Math.floor(runs / LANES) + (lane < runs % LANES ? 1 : 0)
      const details = await fc.check(property, { seed: seed + lane, numRuns, includeErrorInReport: true })
      if (details.failed && details.counterexample && !found) {
        const played = details.counterexample[0]
        const faults = (details.errorInstance instanceof Error ? details.errorInstance.message : String(details.errorInstance)).split('\n')
        found = { seed: seed + lane, faults, played, file: save(seed + lane, played, faults) }
      }
    })
  )
  return found
}

function save(seed: number, played: ModelCase, faults: string[]): string {
  const folder = fileURLToPath(new URL('found/', import.meta.url))
  mkdirSync(folder, { recursive: true })
  const file = `${folder}${seed}.json`
  const { events, orders, ...rest } = played
  const list = (items: unknown[]) => `[\n${items.map((item) => `    ${JSON.stringify(item)}`).join(',\n')}\n  ]`
  writeFileSync(file, `{\n  "faults": ${JSON.stringify(faults)},\n  "stock": ${rest.stock},\n  "orders": ${list(orders)},\n  "events": ${list(events)}\n}\n`)
  return file
}

/** A finding as people read it. */
export function describe({ seed, file, faults, played }: Found): string {
  return [...faults, `Seed ${seed}; the smallest case, with ${played.stock} units of the product:`, ...played.orders.map((order, index) => `  order ${index}: ${JSON.stringify(order)}`), ...played.events.map((event) => `  ${JSON.stringify(event)}`), `Play it again: npm run test:model -- --replay ${file}`].join('\n')
}

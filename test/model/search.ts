import fc from 'fast-check'
import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { modelCase, sentences, type ModelCase } from './case.ts'
import { World } from './world.ts'

/** Worlds at the same time: most of a run is waiting. */
const LANES = 4
/**
 * How long fast-check may make a failing case simpler, and then how long single events are left
 * out, ms.
 */
const SHRINK_MS = 10_000
const LEAVE_OUT_MS = 40_000
/**
 * A smaller case counts as sound when it goes well this often: what a race breaks does not break
 * each time.
 */
const TRIES = 2

export interface Search {
  runs: number
  seed: number
  createDatabase(): Promise<string>
  /** Told after each run how many there have been. */
  progress(done: number): void
  /** Told of the first case that went wrong, before it is made smaller. */
  failed(faults: string[]): void
}

export interface Found {
  seed: number
  /** How many runs it took. */
  run: number
  file: string
  faults: string[]
  played: ModelCase
}

/**
 * Plays random cases. Each lane is a world of its own, where one case follows the other, with a
 * seed of its own, counted from `seed`.
 * @returns the smallest case that went wrong, saved
 */
export async function search({
  runs,
  seed,
  createDatabase,
  progress,
  failed
}: Search): Promise<Found | undefined> {
  let done = 0
  let failing: { lane: number; run: number; until: number } | undefined
  let found: Found | undefined
  const lanes = Array.from({ length: Math.min(LANES, runs) }, async (_, lane) => {
    let world: World | undefined
    const play = async (played: ModelCase): Promise<string[]> => {
      world ??= await World.open(await createDatabase())
      const faults = await world.play(played).catch((error: unknown) => [String(error)])
      if (world.sound) return faults
      await world.close()
      world = undefined
      return faults
    }
    const playAgain = async (played: ModelCase): Promise<string[]> => {
      let faults: string[] = []
      for (let tries = TRIES; tries > 0 && faults.length === 0; tries--) faults = await play(played)
      return faults
    }
    const property = fc.asyncProperty(modelCase, async (played) => {
      // The lane that has found something makes it smaller, for a time; the others end.
      if (failing && (failing.lane !== lane || Date.now() > failing.until)) return
      const faults = await (failing ? playAgain(played) : play(played))
      if (!failing) progress(++done)
      if (faults.length === 0) return
      if (!failing) {
        failing = { lane, run: done, until: Date.now() + SHRINK_MS }
        save(seed, played, faults)
        failed(faults)
      } else if (failing.lane !== lane) return
      throw new Error(faults.join('\n'))
    })
    const numRuns = Math.floor(runs / LANES) + (lane < runs % LANES ? 1 : 0)
    const { counterexample, errorInstance } = await fc.check(property, {
      seed: seed + lane,
      numRuns
    })
    if (counterexample) {
      const simpler = {
        played: counterexample[0],
        faults: (errorInstance as Error).message.split('\n')
      }
      const smallest = await leaveOut(simpler, playAgain)
      found = {
        seed,
        run: failing!.run,
        ...smallest,
        file: save(seed, smallest.played, smallest.faults)
      }
    }
    await world?.close()
  })
  await Promise.all(lanes)
  return found
}

interface Failing {
  played: ModelCase
  faults: string[]
}

/**
 * Leaves out every event without which a case goes wrong as well. fast-check leaves out many at
 * once, and seldom one in the middle.
 */
async function leaveOut(
  failing: Failing,
  play: (played: ModelCase) => Promise<string[]>
): Promise<Failing> {
  const until = Date.now() + LEAVE_OUT_MS
  let smallest = failing
  for (let index = failing.played.events.length - 1; index >= 0 && Date.now() < until; index--) {
    const played = { ...smallest.played, events: smallest.played.events.toSpliced(index, 1) }
    const faults = await play(played)
    if (faults.length > 0) smallest = { played, faults }
  }
  return smallest
}

function save(seed: number, { stock, orders, events }: ModelCase, faults: string[]): string {
  const folder = fileURLToPath(new URL('found/', import.meta.url))
  mkdirSync(folder, { recursive: true })
  const file = `${folder}${seed}.json`
  const placed = Math.max(...events.map((event) => ('order' in event ? event.order : 0)))
  const list = (items: readonly unknown[]) =>
    `[\n${items.map((item) => `    ${JSON.stringify(item)}`).join(',\n')}\n  ]`
  writeFileSync(
    file,
    `{\n  "faults": ${list(faults)},\n  "stock": ${stock},\n  "orders": ${list(orders.slice(0, placed + 1))},\n  "events": ${list(events)}\n}\n`
  )
  return file
}

/** A finding as people read it. */
export function describe({ seed, run, file, faults, played }: Found): string {
  return [
    `Run ${run} of seed ${seed} went wrong; the smallest case that still does:`,
    ...sentences(played).map((line) => `  ${line}`),
    ...faults,
    `Play it again: npm run test:model -- --replay ${file}`
  ].join('\n')
}

// Two versions of the product in one run, in turns: what the machine does meanwhile meets both.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { median, type Run } from './compare.ts'
import type { Contender } from './contenders.ts'

/** What is appended to the name of a contender from the other checkout. */
const OTHER = '@against'

/**
 * Builds the other checkout by its own means.
 * @returns its folder
 * @throws {Error} when the folder is no checkout, or its build fails
 */
export function buildOther(folder: string): string {
  const root = resolve(folder)
  const file = join(root, 'package.json')
  const { scripts } = (existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {}) as {
    scripts?: Record<string, string>
  }
  if (!scripts?.['build'])
    throw new Error(
      `--against ${folder}: expected the folder of another checkout, with a package.json that has the script build`
    )
  execFileSync('npm', ['run', 'build', '--silent'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit']
  })
  if (!existsSync(join(root, 'dist/main.js')))
    throw new Error(`--against ${folder}: expected its "npm run build" to make dist/main.js`)
  return root
}

/**
 * Each contender of the product beside itself from the other checkout; the rest as they are. Every
 * second round goes backwards: A B, B A, A B.
 */
export function withOther(contenders: readonly Contender[], root: string): Contender[] {
  return contenders.flatMap((contender) =>
    contender.isProduct
      ? [
          contender,
          { ...otherVersion(contender), program: [join(root, 'dist/main.js')], folder: root }
        ]
      : [contender]
  )
}

/** What a contender from the other checkout is called. */
export function otherVersion(contender: Contender): Contender {
  return { ...contender, name: contender.name + OTHER, title: `${contender.title}, against` }
}

/** `a1b2c3d`, with `+` when something is not committed. */
export function versionOf(root: string): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', root, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore']
      }).trim()
    return (
      git('rev-parse', '--short', 'HEAD') +
      (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+')
    )
  } catch {
    return 'no git checkout'
  }
}

const MEASURES: readonly (readonly [name: string, of: (run: Run) => number])[] = [
  ['orders/s', ({ ordersPerSecond }) => ordersPerSecond],
  ['CPU ms an order', ({ cpu }) => cpu.node + cpu.postgres + cpu.rabbitmq]
]

/** Two lines a pair: the medians and their ratio, here to against, and the ratio of each round. */
export function againstLines(runs: readonly Run[]): string[] {
  const names = [...new Set(runs.map(({ contender }) => contender))].filter((name) =>
    runs.some(({ contender }) => contender === name + OTHER)
  )
  return names.flatMap((name) => {
    const of = (contender: string) =>
      runs.filter((run) => run.contender === contender).toSorted((a, b) => a.round - b.round)
    const [here, other] = [of(name), of(name + OTHER)]
    return MEASURES.map(([measure, figure]) => {
      const ratios = here.map((run, index) => figure(run) / figure(other[index]!))
      const [a, b] = [median(here.map(figure)), median(other.map(figure))]
      return `${name}, ${measure}: ${(a / b).toFixed(3)} (medians ${rounded(a)} here, ${rounded(b)} against) · pairs ${ratios.map((ratio) => ratio.toFixed(2)).join(' ')} · ${verdict(ratios)}`
    })
  })
}

/** A difference is one that would come by chance in less than one of twenty series (sign test). */
function verdict(ratios: readonly number[]): string {
  const above = ratios.filter((ratio) => ratio > 1).length
  const below = ratios.filter((ratio) => ratio < 1).length
  const [count, most] = [above + below, Math.max(above, below)]
  let chance = 0
  for (let hits = most; hits <= count; hits++) chance += choose(count, hits) / 2 ** (count - 1)
  if (count === 0 || chance >= 0.05)
    return `no difference to be seen in ${ratios.length} ${ratios.length === 1 ? 'pair' : 'pairs'}`
  return `${above > below ? 'more' : 'less'} here in ${most} of ${ratios.length} pairs`
}

function choose(count: number, hits: number): number {
  let ways = 1
  for (let index = 1; index <= hits; index++) ways = (ways * (count - hits + index)) / index
  return ways
}

function rounded(figure: number): string {
  return figure >= 100 ? figure.toFixed(0) : figure.toPrecision(3)
}

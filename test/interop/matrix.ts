import type { Scope } from '../support/program.ts'
import type { Journey } from './journeys.ts'
import { MixedShop, type Side, type Sides } from './mixed-shop.ts'

export interface Matrix {
  /** To read: a row a combination, a column a journey, and why a cell failed. */
  table: string
  failed: number
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

export async function runMatrix(
  rows: readonly Sides[],
  columns: readonly Journey[]
): Promise<Matrix> {
  const reasons: string[] = []
  const lines = [['order', 'stock', 'payment', ...columns.map(({ name }) => name)]]
  for (const sides of rows) {
    const cells = await scoped((scope) => runRow(scope, sides, columns, reasons))
    lines.push([sides.order, sides.stock, sides.payment, ...cells])
  }
  return { table: [format(lines), ...reasons].join('\n\n'), failed: reasons.length }
}

async function runRow(
  scope: Scope,
  sides: Sides,
  columns: readonly Journey[],
  reasons: string[]
): Promise<string[]> {
  const title = Object.values(sides).join(', ')
  const failed = (column: string, error: unknown) => {
    const reason = `FAIL ${title}: ${column}: ${error instanceof Error ? error.message : error}`
    console.error(reason)
    reasons.push(reason)
    return 'FAIL'
  }
  const began = performance.now()
  let shop: MixedShop
  try {
    shop = await MixedShop.open(scope, { sides })
  } catch (error) {
    return columns.map(({ name }) => failed(name, error))
  }
  const cells: string[] = []
  for (const { name, run } of columns) {
    const start = performance.now()
    cells.push(
      await run(shop, scope).then(
        () => 'ok',
        (error: unknown) => failed(name, error)
      )
    )
    console.log(`${title}: ${name}: ${cells.at(-1)} (${seconds(start)} s)`)
  }
  console.log(`${title}: ${seconds(began)} s in all`)
  return cells
}

/** Tears down what was begun, last first. */
async function scoped<T>(work: (scope: Scope) => Promise<T>): Promise<T> {
  const cleanups: (() => unknown)[] = []
  try {
    return await work({ teardown: (cleanup) => cleanups.push(cleanup) })
  } finally {
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

function seconds(since: number): string {
  return ((performance.now() - since) / 1000).toFixed(1)
}

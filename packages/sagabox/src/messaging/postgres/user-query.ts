import pg, {
  type QueryArrayConfig,
  type QueryArrayResult,
  type QueryConfig,
  type QueryResult,
  type QueryResultRow
} from 'pg'

/** A row whose columns only the query names: as pg types it. */
// oxlint-disable-next-line typescript/no-explicit-any -- what pg's own types say
export type AnyRow = any

/** pg's own `query`, as promises. */
export interface Queries {
  query<Row extends unknown[] = AnyRow[]>(
    config: QueryArrayConfig,
    values?: unknown[]
  ): Promise<QueryArrayResult<Row>>
  query<Row extends QueryResultRow = AnyRow>(
    sent: string | QueryConfig,
    values?: unknown[]
  ): Promise<QueryResult<Row>>
}

// Comments may stand before a command.
const START = String.raw`^(?:\s|--[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*`
const ENDS = new RegExp(
  String.raw`${START}(?:begin|start\s+transaction|commit|end|abort|prepare\s+transaction|rollback(?!(?:\s+(?:work|transaction))?\s+to\b))\b`,
  'is'
)

/**
 * One that somebody else's code sends.
 * @returns with values that pg has nothing to do about: it cannot recover from one that it cannot
 * write
 * @throws TypeError when it is none
 */
export function readQuery(sent: string | QueryConfig, given?: unknown[]): QueryConfig {
  const config = typeof sent === 'string' ? { text: sent } : sent
  if (typeof config?.text !== 'string' || 'submit' in config)
    throw new TypeError(
      `query() was given ${describe(sent)}; expected SQL as a text, or { text, values }`
    )
  const values = given ?? config.values
  if (values === undefined) return config
  if (!Array.isArray(values))
    throw new TypeError(`The values of a query are ${describe(values)}; expected an array`)
  return { ...config, values: values.map((value) => prepareValue(value)) }
}

/**
 * What follows the end of the transaction would be committed by itself.
 * @throws Error for a statement that begins or ends a transaction
 */
export function mustNotEnd(text: string): void {
  if (ENDS.test(text))
    throw new Error(
      `${text.trim().slice(0, 60)}: only transaction() begins and ends a transaction, when its work returns or throws; inside it, use savepoints`
    )
}

/** Whether it may undo a part of the transaction; in vain for a text that only speaks of it. */
export function mayUndo(text: string): boolean {
  return /\brollback\b/i.test(text)
}

function prepareValue(value: unknown): unknown {
  const { utils } = pg as unknown as { utils: { prepareValue(value: unknown): unknown } }
  return utils.prepareValue(value)
}

function describe(value: unknown): string {
  if (value === null || typeof value !== 'object') return String(value).slice(0, 60)
  return `a ${(value as { constructor?: { name?: string } }).constructor?.name ?? 'value'}`
}

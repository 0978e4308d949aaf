import pg from 'pg'
import type { Test } from 'tap'

interface Plan {
  'Node Type': string
  'Relation Name'?: string
  'Actual Rows': number
  'Actual Loops': number
  'Rows Removed by Filter'?: number
  Plans?: Plan[]
}

/**
 * Tells how many rows a request's statements read, those thrown away included.
 * @param tables finds the statements that are looked at
 */
export function rowsRead(t: Test, databaseUrl: string, tables: RegExp) {
  const original = pg.Client.prototype.query
  t.teardown(() => void (pg.Client.prototype.query = original))
  return async <R>(request: () => Promise<R>): Promise<{ answer: R; rows: number }> => {
    const statements: { text: string; values: unknown[] | undefined; options: string }[] = []
    pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
      const [sent, given] = args as [string | pg.QueryConfig, unknown[] | undefined]
      const { text, values = given } = typeof sent === 'string' ? { text: sent } : sent
      const { options = '' } = (this as unknown as { connectionParameters: { options?: string } })
        .connectionParameters
      if (typeof text === 'string' && tables.test(text)) statements.push({ text, values, options })
      return Reflect.apply(original, this, args)
    } as typeof original
    const answer = await request()
    pg.Client.prototype.query = original
    let rows = 0
    for (const { text, values, options } of statements) {
      const client = new pg.Client({ connectionString: databaseUrl, options })
      await client.connect()
      try {
        const explained = await client.query<{ 'QUERY PLAN': { Plan: Plan }[] }>(
          `explain (analyze, format json) ${text}`,
          values
        )
        rows += readBy(explained.rows[0]!['QUERY PLAN'][0]!.Plan)
      } finally {
        await client.end()
      }
    }
    if (statements.length === 0) throw new Error('No statement was seen')
    return { answer, rows }
  }
}

function readBy(plan: Plan): number {
  const own = plan['Relation Name']
    ? (plan['Actual Rows'] + (plan['Rows Removed by Filter'] ?? 0)) * plan['Actual Loops']
    : 0
  return (plan.Plans ?? []).reduce((sum, inner) => sum + readBy(inner), own)
}

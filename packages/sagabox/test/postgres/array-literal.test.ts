import fc from 'fast-check'
import pg from 'pg'
import t from 'tap'
import { parameter } from '../../src/messaging/postgres/array-literal.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'

t.test('arrays arrive in PostgreSQL as they are', async (t) => {
  const client = new pg.Client({
    connectionString: await (await postgresForTests()).createDatabase(t.name)
  })
  await client.connect()
  t.teardown(() => client.end())
  const arrives = async (type: string, values: unknown[]) => {
    const { rows } = await client.query<{ values: unknown[] }>(`select $1::${type}[] as values`, [
      parameter(values)
    ])
    return rows[0]!.values
  }
  // What PostgreSQL cannot store is not ours to escape.
  const text = fc.oneof(
    fc.string({ unit: 'binary' }).map((all) => all.replaceAll('\0', '')),
    fc.constantFrom(
      '',
      'null',
      'NULL',
      ' ',
      '{}',
      '{a,b}',
      ',',
      '"',
      '\\',
      '\\"',
      "'",
      'a"b\\c',
      '\n\t',
      'é',
      '👍',
      '\u001e'
    )
  )
  await fc.assert(
    fc.asyncProperty(fc.array(fc.option(text)), async (values) => {
      t.strictSame(await arrives('text', values), values)
    }),
    { numRuns: 300 }
  )
  t.strictSame(await arrives('text', []), [])
  t.strictSame(await arrives('integer', [1, -2, null]), [1, -2, null])
  t.strictSame(await arrives('float8', [1.5, -2e-7, 1e21]), [1.5, -2e-7, 1e21])
  t.strictSame(await arrives('boolean', [true, false, undefined]), [true, false, null])
  t.strictSame(await arrives('bigint', ['9007199254740993', 7n]), ['9007199254740993', '7'])
  t.strictSame(
    await arrives('bytea', [Buffer.from([0, 255]), null]),
    [Buffer.from([0, 255]), null],
    'bytes are left to pg'
  )
})

t.test('what is no array stays as it is', async (t) => {
  for (const value of [null, undefined, 'text', 7, true, Buffer.from('bytes')])
    t.equal(parameter(value), value)
})

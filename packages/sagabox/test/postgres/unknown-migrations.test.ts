import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { connectDatabase, createDataSource } from '../../src/messaging/postgres/database.ts'
import type { Log } from '../../src/messaging/async/log.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'

t.test('older code says once that the database is of a newer build, and starts', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-migrations-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const url = await (await postgresForTests()).createDatabase(t.name)
  const start = async (build: string, migrations: Record<string, string>) => {
    await mkdir(join(folder, build))
    for (const [file, sql] of Object.entries(migrations))
      await writeFile(join(folder, build, file), sql)
    const warnings: unknown[] = []
    const log = {
      info() {},
      debug() {},
      error() {},
      warn: (fields: object, message: string) => void warnings.push({ ...fields, message })
    } as unknown as Log
    const options = { url, schema: 'harbour', migrations: [join(folder, build)], poolSize: 2, log }
    const dataSource = createDataSource(options)
    await connectDatabase(dataSource, options)
    await dataSource.destroy()
    return warnings
  }
  const older = { '202601010000-ships.sql': 'create table ships (id int)' }
  const newer = { ...older, '202602010000-names.sql': 'alter table ships add name text' }
  t.same(await start('older', older), [])
  t.same(await start('newer', newer), [])
  t.match(await start('older again', older), [
    {
      schema: 'harbour',
      migrations: ['names-0202602010000'],
      message: /^This build is older than the database/
    }
  ])
})

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ClientBase, QueryConfig } from 'pg'
import type { MigrationInterface, QueryRunner } from 'typeorm'

/** A migration without an answer for so long, ms, means a dead connection. */
const MIGRATION_TIMEOUT_MS = 24 * 3_600_000

/**
 * TypeORM migrations of a service.
 * @param sources folders, with one migration for each SQL file, and SQL texts, which are numbered
 */
export function sqlMigrations(sources: readonly string[]): (new () => MigrationInterface)[] {
  let texts = 0
  return sources.flatMap((source) => fromSource(source, isSql(source) ? ++texts : 0))
}

function isSql(source: string): boolean {
  return /\s/.test(source.trim()) && !existsSync(source)
}

function fromSource(source: string, number: number): (new () => MigrationInterface)[] {
  // Behind all that have a date: it may use their tables.
  if (isSql(source)) return [migrationOf(`inline`, `9${String(number).padStart(12, '0')}`, source)]
  return readdirSync(source)
    .filter((file) => file.endsWith('.sql'))
    .toSorted()
    .map((file) => {
      const [, digits, title] = /^(\d{12})-(.+)\.sql$/.exec(file) ?? []
      if (!digits || !title)
        throw new Error(`${join(source, file)}: expected a name like 202601311200-what-it-does.sql`)
      return migrationOf(title, `0${digits}`, readFileSync(join(source, file), 'utf8'))
    })
}

function migrationOf(title: string, order: string, sql: string): new () => MigrationInterface {
  const concurrent = /\bconcurrently\b/.test(sql)
  return class {
    // TypeORM orders migrations by the last thirteen digits of their name.
    readonly name = `${title}-${order}`
    /**
     * What is built beside running work cannot be built in a transaction: a file of its own,
     * safe to run again.
     */
    readonly transaction = !concurrent
    async up(runner: QueryRunner): Promise<void> {
      const client = (await runner.connect()) as ClientBase
      // As long as it takes: a large table is no dead connection, and its lock no deadlock.
      const run = (text: string) =>
        client.query({ text, query_timeout: MIGRATION_TIMEOUT_MS } as QueryConfig)
      if (!concurrent) {
        await run('set local statement_timeout = 0')
        return void (await run(sql))
      }
      await run('set lock_timeout = 0; set statement_timeout = 0')
      try {
        for (const text of sql.split(/;\s*$/m).filter((part) => part.trim() !== '')) await run(text)
      } finally {
        await run('reset lock_timeout; reset statement_timeout')
      }
    }
    /** Migrations only go forward: to undo one, write the next. */
    async down(): Promise<void> {
      throw new Error(`${title}: migrations only go forward`)
    }
  }
}

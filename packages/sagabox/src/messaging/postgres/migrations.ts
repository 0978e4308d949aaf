import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** One step of a schema; forward only. */
export interface Migration {
  /** What is recorded: the file's name without `.sql`, or `inline-<n>`. */
  readonly id: string
  readonly sql: string
  /** SHA-256 of the text, in hex; line ends count as `\n`. */
  readonly checksum: string
  /**
   * What is built beside running work cannot be built in a transaction: a file of its own, safe to
   * run again.
   */
  readonly isConcurrent: boolean
  /** For people: the file. */
  readonly source: string
}

/**
 * Migrations in the order in which they are run.
 * @param sources folders of `<yyyymmddhhmm>-<name>.sql` files, each read in the order of its names,
 * and SQL texts, which are numbered
 * @throws Error for a file with another name, or a name that is there twice
 */
export function readMigrations(sources: readonly string[]): Migration[] {
  let texts = 0
  const all = sources.flatMap((source) =>
    isSql(source) ? [textMigration(source, ++texts)] : readFolder(source)
  )
  const byId = new Map<string, Migration>()
  for (const migration of all) {
    const other = byId.get(migration.id)
    if (other)
      throw new Error(
        `${migration.source} and ${other.source}: expected names of their own, by which it is recorded what has run`
      )
    byId.set(migration.id, migration)
  }
  return all
}

function isSql(source: string): boolean {
  return /\s/.test(source.trim()) && !existsSync(source)
}

function textMigration(sql: string, number: number): Migration {
  return migrationOf(`inline-${number}`, sql, `the ${number}. SQL text of its migrations`)
}

function readFolder(folder: string): Migration[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.sql'))
    .toSorted()
    .map((file) => {
      const path = join(folder, file)
      if (!/^\d{12}-.+\.sql$/.test(file))
        throw new Error(`${path}: expected a name like 202601311200-what-it-does.sql`)
      return migrationOf(file.replace(/\.sql$/, ''), readFileSync(path, 'utf8'), path)
    })
}

function migrationOf(id: string, sql: string, source: string): Migration {
  return {
    id,
    sql,
    checksum: createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex'),
    isConcurrent: /\bconcurrently\b/.test(sql),
    source
  }
}

/** The statements of a concurrent migration, which are run one by one. */
export function statementsOf({ sql }: Migration): string[] {
  return sql.split(/;\s*$/m).filter((part) => part.trim() !== '')
}

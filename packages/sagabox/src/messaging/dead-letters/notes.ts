import { createHash } from 'node:crypto'
import { typeName } from '../message/type-name.ts'
import { storableText, ask, type Tx } from '../postgres/sql.ts'
import type { Database } from '../postgres/database.ts'

/** What somebody noted on the letters of one cause. */
export interface LetterNote {
  note: string
  by: string | null
  /** ISO 8601. */
  at: string
  /** When somebody called it resolved; null: nobody has. */
  resolvedAt: string | null
}

/** Names the letters of one cause: the same wherever and whenever they are counted. */
export function groupId({ type, exception }: { type: string | null; exception: string }): string {
  const named = JSON.stringify([type && typeName(type), exception])
  return createHash('sha256').update(named).digest('hex').slice(0, 16)
}

/** By the ids of their groups. */
export async function notesOn(
  database: Database,
  groups: readonly string[]
): Promise<ReadonlyMap<string, LetterNote>> {
  const rows: {
    id: string
    note: string
    by: string | null
    at: Date
    resolved: Date | null
  }[] = await database.rows(
    `select group_id as id, note, by, at, resolved_at as resolved from dead_letter_note
     where group_id = any($1)`,
    [groups]
  )
  return new Map(
    rows.map(({ id, note, by, at, resolved }) => [
      id,
      { note, by, at: at.toISOString(), resolvedAt: resolved?.toISOString() ?? null }
    ])
  )
}

/** Notes something on a group, in the place of what was noted before. */
export async function noteOn(
  tx: Tx,
  group: string,
  { note, by, resolved }: { note: string; by: string | undefined; resolved: boolean }
): Promise<void> {
  await ask(
    tx,
    `insert into dead_letter_note (group_id, note, by, resolved_at)
     values ($1, $2, $3, case when $4 then now() end)
     on conflict (group_id) do update set note = excluded.note, by = excluded.by, at = now(),
       resolved_at = case when $4 then coalesce(dead_letter_note.resolved_at, now()) end`,
    [group, storableText(note), by ?? null, resolved]
  )
}

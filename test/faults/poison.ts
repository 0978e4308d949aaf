import pg from 'pg'

const OF_EACH_SERVICE = 5

/**
 * Has each service that has been started send itself messages that nobody can read, over so many
 * seconds. Returns their ids.
 */
export async function poison(databaseUrl: string, seconds: number): Promise<ReadonlySet<string>> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const ids: string[] = []
    for (const service of ['order', 'stock', 'payment']) {
      const { rowCount: hasOutbox } = await client.query(HAS_OUTBOX, [`${service}_service.outbox`])
      if (!hasOutbox) continue
      const { rows } = await client.query<{ id: string }>(
        `insert into ${service}_service.outbox (message_id, destination, required, payload, due_at)
         select gen_random_uuid(), $1, true, 'poison ' || gen_random_uuid(),
           now() + nth * interval '1 second' * $2 / $3 from generate_series(0, $3 - 1) as nth
         returning message_id as id`,
        [service, seconds, OF_EACH_SERVICE]
      )
      ids.push(...rows.map(({ id }) => id))
    }
    return new Set(ids)
  } finally {
    await client.end()
  }
}

const HAS_OUTBOX = 'select where to_regclass($1) is not null'

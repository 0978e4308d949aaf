import pg from 'pg'

/**
 * Holds locks in a transaction while something else happens, as a slow transaction of somebody
 * would.
 */
export async function whileLocked(
  databaseUrl: string,
  lock: string,
  work: () => Promise<unknown>
): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    await client.query('begin')
    await client.query(lock)
    await work()
    await client.query('commit')
  } finally {
    await client.end()
  }
}

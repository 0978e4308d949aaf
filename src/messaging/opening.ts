import pg, { type ClientBase, type Connection, type QueryResult, type QueryResultRow } from 'pg'
import { parameter } from './array-literal.ts'

/** The first statement of a transaction, prepared under its name. */
export interface Opening<T> {
  name: string
  text: string
  values: unknown[]
  /** What the work wants to know of its rows. */
  read(rows: QueryResultRow[]): T
}

const BEGIN = { name: 'begin', text: 'begin' }

/** Connections that know BEGIN as a prepared statement. */
const prepared = new WeakSet<ClientBase>()

/**
 * Begins a transaction, with its first statement in the same round trip: each one costs a turn of a busy event loop, and an order waited for
 * 18 of them. BEGIN and the statement are one message to the server (one Sync). If BEGIN fails, PostgreSQL leaves out what follows, which
 * would otherwise be committed by itself.
 */
export async function begin<T>(client: ClientBase, opening: Opening<T> | undefined): Promise<T | undefined> {
  const known = prepared.has(client)
  if (!opening || !known) {
    await client.query(BEGIN)
    prepared.add(client)
  }
  if (!opening) return undefined
  const { name, text } = opening
  const query = { name, text, values: opening.values.map(parameter) }
  if (!known) return opening.read((await client.query(query)).rows)
  // Two statements, two results. Not read in pg's callback: what is thrown there ends the process.
  const results = await new Promise<QueryResult[]>((resolve, reject) => {
    client.query(new OpeningQuery(query, (error, found) => (error ? reject(error) : resolve(found as QueryResult[]))))
  })
  return opening.read(results.at(-1)!.rows)
}

/** pg's own query, which sends BEGIN before itself and no Sync in between. */
class OpeningQuery extends pg.Query {
  /** For who follows the transactions of a connection. */
  readonly begins = true

  constructor(query: { name: string; text: string; values: unknown[] }, answered: (error: Error | undefined, results: unknown) => void) {
    super(query, answered)
    const { submit } = this
    this.submit = (connection: Connection) => {
      connection.stream.cork()
      connection.bind({ statement: BEGIN.name }, false)
      connection.execute(null, false)
      const refused = submit.call(this, connection)
      connection.stream.uncork()
      return refused
    }
  }
}

// `sagabox/typeorm`: TypeORM on Sagabox's connections. TypeORM is an optional peer.
import { DataSource, type EntityManager, type EntitySchema } from 'typeorm'
import type { Database } from './messaging/postgres/database.ts'
import { isTx, type Tx } from './messaging/postgres/sql.ts'

/** Classes with decorators, or schemas. */
export type Entities = readonly (EntitySchema | (new () => unknown))[]

/** By the list itself. */
const sources = new WeakMap<Entities, Promise<DataSource>>()

/**
 * An EntityManager on the connection and in the transaction of `tx`: its own transactions are
 * savepoints. Of a service's `database`, one outside transactions: it can begin none.
 * @param entities a list that is kept in a constant, since TypeORM reads it once; or a DataSource of
 * your own that is initialized, of which the entities are taken and not the connections
 * @throws Error what the database or TypeORM says when the list is read
 */
export async function typeorm(
  on: Tx | Database,
  entities: Entities | DataSource
): Promise<EntityManager> {
  const source = entities instanceof DataSource ? entities : await sourceOf(entities, on)
  const runner = source.createQueryRunner()
  const connection = connectionOn(on)
  Object.assign(runner, {
    connect: async () => connection,
    // As TypeORM's own startTransaction() leaves it.
    ...(isTx(on) && { isTransactionActive: true, transactionDepth: 1 })
  })
  return runner.manager
}

function sourceOf(entities: Entities, on: Tx | Database): Promise<DataSource> {
  const known = sources.get(entities)
  if (known) return known
  const made = initialized(entities, on)
  sources.set(entities, made)
  made.catch(() => sources.delete(entities))
  return made
}

/** It asks the database for its version, and keeps no connection. */
function initialized(entities: Entities, on: Tx | Database): Promise<DataSource> {
  class Pool {
    connect(answer: (error: undefined, client: object, release: () => void) => void): void {
      answer(undefined, connectionOn(on), () => {})
    }
    on(): void {}
    end(ended: () => void): void {
      ended()
    }
  }
  const source = new DataSource({
    type: 'postgres',
    driver: { Pool },
    entities: [...entities],
    installExtensions: false
  })
  return source.initialize()
}

/** What TypeORM asks of a client of pg. */
function connectionOn(on: Tx | Database): object {
  const nothing = () => {}
  return {
    query: (text: string, values?: unknown[]) => on.query(text, values),
    on: nothing,
    removeListener: nothing
  }
}

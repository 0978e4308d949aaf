import { Pool, type PoolClient, type PoolConfig } from 'pg'
import { UnfitSession, type DatabaseServer } from './server.ts'
import { SessionClient, type SessionConfig } from './session.ts'

/**
 * How long a connection is used, s: between this and twice as long, so that not all end at once.
 * What a server's state was when it was made does not outlive that.
 */
const LIFETIME_S = 900

/** Pools of this process, by the server that their sessions are at. */
const poolsAt = new WeakMap<DatabaseServer, Set<SessionPool>>()

/**
 * A pool that takes back only sessions as good as new. It ends one that has answered as a replica,
 * whose settings somebody has changed, or in which a transaction is open.
 */
export class SessionPool extends Pool {
  readonly #all = new Set<PoolClient & SessionClient>()
  readonly #inUse = new Set<PoolClient>()
  /** All pools at the same server, this one among them. */
  readonly #neighbours: Set<SessionPool>

  constructor(options: PoolConfig & SessionConfig) {
    super({ ...options, Client: SessionClient as unknown as NonNullable<PoolConfig['Client']> })
    // Asked once for each connection.
    Object.defineProperty(this.options, 'maxLifetimeSeconds', {
      get: () => LIFETIME_S * (1 + Math.random())
    })
    const { outage, server } = options.session
    this.#neighbours = poolsAt.get(server) ?? new Set()
    poolsAt.set(server, this.#neighbours.add(this))
    this.on('connect', (made) => {
      const client = made as PoolClient & SessionClient
      this.#all.add(client)
      client.once('outdated', () => {
        for (const pool of this.#neighbours) pool.#distrustAll()
      })
    })
    this.on('acquire', (client) => this.#inUse.add(client))
    // Before the pool decides what becomes of it: one that ends is not kept.
    this.on('release', (_error, client) => {
      this.#inUse.delete(client)
      if ((client as PoolClient & SessionClient).unfit !== undefined) void client.end()
    })
    this.on('remove', (client) => this.#all.delete(client as PoolClient & SessionClient))
    this.on('error', (error) => {
      // pg says that a pool has ended before its sockets are closed, and the server may stop first.
      if (this.ending) return
      if (!(error instanceof UnfitSession)) outage?.lost(error.message || String(error))
    })
  }

  override end(): Promise<void>
  override end(callback: () => void): void
  override end(callback?: () => void): Promise<void> | void {
    this.#neighbours.delete(this)
    return callback ? super.end(callback) : super.end()
  }

  /** What one session has answered, the others would answer one by one, or hide by an old state. */
  #distrustAll(): void {
    for (const client of this.#all) {
      client.distrust('another session, as old as this one, is outdated')
      // The pool takes it out at once.
      if (!this.#inUse.has(client))
        client.emit('error', new UnfitSession('another session, as old as this one, is outdated'))
    }
  }
}

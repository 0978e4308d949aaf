import { readFileSync } from 'node:fs'
import type { Server } from 'node:http'
import type { FastifyBaseLogger } from 'fastify'

/** Connections at once when no setting says: each takes some 15 kB, and a descriptor. */
export const MAX_CONNECTIONS = 5000
/** Descriptors that are left to the database, the broker, files and the like. */
const KEPT_DESCRIPTORS = 150
/** How often it is looked whether a full server has room again, ms. */
const LOOK_MS = 1000

/**
 * Limits how many clients are connected at once. Who comes later is refused by a closed connection;
 * the log says so once when it begins and once when it is over.
 */
export function limitConnections(
  server: Server,
  log: FastifyBaseLogger,
  wanted = MAX_CONNECTIONS
): void {
  const descriptors = openFilesLimit()
  const limit = Math.max(1, Math.min(wanted, descriptors - KEPT_DESCRIPTORS))
  if (limit < wanted) {
    const found = `MAX_CONNECTIONS: expected room for ${wanted} connections, and the limit of open files is ${descriptors}`
    log.warn(
      { wanted, descriptors, limit },
      `${found}; ${limit} are let in. Raise it (ulimit -n), or lower the setting`
    )
  }
  server.maxConnections = limit
  let refused = 0
  server.on('drop', () => {
    if (refused++ > 0) return
    const found = `MAX_CONNECTIONS: ${limit} clients are connected, and no more are let in`
    log.warn({ limit }, `${found}. Find out who holds them, or raise the setting`)
    const timer = setInterval(() => {
      server.getConnections((_error, count) => {
        if (count >= limit) return
        clearInterval(timer)
        log.info(
          { limit, refused },
          `Clients are let in again; ${refused} connections were refused`
        )
        refused = 0
      })
    }, LOOK_MS).unref()
  })
}

/** Infinity where the system does not say. */
function openFilesLimit(): number {
  try {
    const soft = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return soft === undefined ? Infinity : Number(soft)
  } catch {
    return Infinity // Not Linux.
  }
}

import type { Client } from 'pg'

/** What pg takes from PGREPLICATION, PGBINARY and PGOPTIONS although it was not asked to. */
export function withoutShell(client: Client, options = ''): void {
  const inside = client as unknown as {
    replication: unknown
    binary: boolean
    connectionParameters: Record<string, unknown>
  }
  inside.replication = undefined
  inside.binary = false
  Object.assign(inside.connectionParameters, { replication: undefined, binary: false, options })
}

import { fileURLToPath } from 'node:url'
import type { ServiceDefinition } from './define.ts'

/** The library's own tables, which every service has; those of sagas only where there is one. */
const OWN_MIGRATIONS = {
  messaging: fileURLToPath(new URL('../../migrations/messaging', import.meta.url)),
  saga: fileURLToPath(new URL('../../migrations/saga', import.meta.url))
}

/** The schema of a service, and all that belongs into it: what `migrate` needs besides a URL. */
export function schemaOf({
  name,
  sagas,
  migrations
}: Pick<ServiceDefinition, 'name' | 'sagas' | 'migrations'>): {
  schema: string
  migrations: readonly string[]
} {
  return {
    schema: `${name}_service`,
    migrations: [
      OWN_MIGRATIONS.messaging,
      ...(sagas.length > 0 ? [OWN_MIGRATIONS.saga] : []),
      ...migrations
    ]
  }
}

import { fileURLToPath } from 'node:url'
import type { ServiceDefinition } from './define.ts'

/** The library's own tables, which every service has; those of sagas only where there is one. */
const OWN = {
  messaging: fileURLToPath(new URL('../../migrations/messaging', import.meta.url)),
  saga: fileURLToPath(new URL('../../migrations/saga', import.meta.url))
}

/** All that makes a service's schema: folders of SQL files, and SQL itself. */
export function migrationsOf({ sagas, migrations }: ServiceDefinition): string[] {
  return [OWN.messaging, ...(sagas.length > 0 ? [OWN.saga] : []), ...migrations]
}

export function schemaOf({ name }: Pick<ServiceDefinition, 'name'>): string {
  return `${name}_service`
}

import { join } from 'node:path'
import { ROOT } from './program.ts'

/** Folder of the migrations of a part: of the library's `messaging` and `saga`, or of a service. */
export function migrationsOf(part: string): string {
  const isLibrarys = part === 'messaging' || part === 'saga'
  return join(ROOT, isLibrarys ? 'packages/sagabox/migrations' : 'migrations', part)
}

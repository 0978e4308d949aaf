import { readFileSync } from 'node:fs'
import { CannotStart } from 'sagabox'
import { SERVICE_NAMES, type ServiceName } from './shop.ts'

/** An option that means nothing here. */
export class UsageError extends CannotStart {
  override readonly name = 'UsageError'
  override readonly code = 'USAGE_ERROR'
  override readonly exitCode = 2
}

/**
 * What was asked for: services to run, or a text to print.
 * @throws CannotStart, for an option UsageError
 */
export function readCommandLine(
  args: readonly string[]
): { services: ServiceName[] } | 'console' | { text: string } {
  // scripts/start.mjs answers the same before anything is installed.
  if (args.some((arg) => arg === '--help' || arg === '-h'))
    return { text: read('../config/usage.txt') }
  if (args.includes('--version'))
    return { text: `${(JSON.parse(read('../package.json')) as { version: string }).version}\n` }
  if (args.length === 1 && args[0] === 'console') return 'console'
  const unknown = args.find((arg) => !SERVICE_NAMES.includes(arg as ServiceName))
  if (unknown?.startsWith('-'))
    throw new UsageError(
      `Unknown option ${unknown}: expected --help, --version or names of services. Settings are environment variables: npm start -- --help`
    )
  // With 1, as it always did.
  if (unknown !== undefined)
    throw new CannotStart(
      `Unknown service ${unknown}: expected any of ${SERVICE_NAMES.join(', ')}, console alone, or none for all. More: npm start -- --help`
    )
  return {
    services:
      args.length > 0 ? SERVICE_NAMES.filter((name) => args.includes(name)) : [...SERVICE_NAMES]
  }
}

function read(path: string): string {
  return readFileSync(new URL(path, import.meta.url), 'utf8')
}

import type { ServiceDefinition } from '../index.ts'
import type { App } from './app-module.ts'
import { WrongUsage, type Call } from './command.ts'

export interface Database {
  services: ServiceDefinition[]
  /** The environment variable that holds its URL. */
  setting: string
}

/**
 * By URL: the services of each database.
 * @throws WrongUsage naming the first service without one
 */
export function databasesOf(
  { services }: Pick<App, 'services'>,
  { terminal }: Pick<Call, 'terminal'>
): Map<string, Database> {
  const databases = new Map<string, Database>()
  for (const service of services) {
    const own = `${service.name.toUpperCase().replaceAll('-', '_')}_DATABASE_URL`
    const setting = terminal.setting(own) === undefined ? 'DATABASE_URL' : own
    const url = terminal.setting(setting)
    if (url === undefined)
      throw new WrongUsage(
        `where is the database of ${service.name}? Expected DATABASE_URL=postgres://…, or ${own}`
      )
    const database = databases.get(url) ?? { services: [], setting }
    database.services.push(service)
    databases.set(url, database)
  }
  return databases
}

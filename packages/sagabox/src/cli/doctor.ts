import { examineBroker } from '../doctor/broker.ts'
import { DatabaseUnreachable, examineDatabase } from '../doctor/database.ts'
import type { Examination } from '../doctor/finding.ts'
import type { ServiceDefinition } from '../index.ts'
import { APP_OPTION, loadServices, type App } from './app-module.ts'
import { NotReachable, WrongUsage, type Call, type Command, type Group } from './command.ts'
import { report } from './findings.ts'
import { brokerOf, explain } from './topology.ts'

const doctor: Command = {
  summary:
    'Look at the databases and the broker of your services: drift of schemas, clocks, poolers, ' +
    'queues, bindings, dead letters; 1 when anything is found. Nothing that it does stays. ' +
    'DATABASE_URL (or <SERVICE>_DATABASE_URL) and RABBITMQ_URL say where; without the latter the ' +
    'broker is left out. RABBITMQ_MANAGEMENT_URL lets bindings be looked at, too',
  options: APP_OPTION,
  async run(call) {
    const app = await loadServices(call)
    await app.running?.stop()
    const examinations: Examination[] = []
    for (const [url, { services, setting }] of databasesOf(app, call))
      examinations.push(await examineDatabase(url, services, setting).catch(unreachable))
    if (call.terminal.setting('RABBITMQ_URL') !== undefined)
      examinations.push(await examineBroker(await brokerOf(call)).catch(explain))
    else
      examinations.push({
        findings: [],
        notes: ['The broker was left out: no RABBITMQ_URL is set']
      })
    const all = {
      findings: examinations.flatMap(({ findings }) => findings),
      notes: examinations.flatMap(({ notes }) => notes)
    }
    return report(all, call)
  }
}

export const group: Group = { '': doctor }

interface Database {
  services: ServiceDefinition[]
  setting: string
}

/** By URL: the services of each database. */
function databasesOf({ services }: App, { terminal }: Call): Map<string, Database> {
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

function unreachable(error: Error): never {
  if (error instanceof DatabaseUnreachable) throw new NotReachable(error.message, { cause: error })
  throw error
}

import { examineBroker } from '../doctor/broker.ts'
import { DatabaseUnreachable, examineDatabase } from '../doctor/database.ts'
import type { Examination } from '../doctor/finding.ts'
import { APP_OPTION, loadServices } from './app-module.ts'
import { NotReachable, type Command, type Group } from './command.ts'
import { databasesOf } from './databases.ts'
import { report } from './findings.ts'
import { explain } from './broker-place.ts'
import { brokerOf } from './topology.ts'

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

function unreachable(error: Error): never {
  if (error instanceof DatabaseUnreachable) throw new NotReachable(error.message, { cause: error })
  throw error
}

import { examineTopology, type BrokerOptions } from '../doctor/broker.ts'
import { brokerRights, systemTopology, type Topology } from '../index.ts'
import { applyTopology } from '../messaging/rabbitmq/compare.ts'
import { APP_OPTION, loadServices } from './app-module.ts'
import { brokerPlace, explain } from './broker-place.ts'
import { EXIT, WrongUsage, type Call, type Command, type Group } from './command.ts'
import { report } from './findings.ts'
import { handOver, takeOver } from './hand-over.ts'
import { clean, table } from './text.ts'

const show: Command = {
  summary: 'Exchanges, queues and bindings that your services declare',
  options: APP_OPTION,
  async run(call) {
    const { services, system, running } = await loadServices(call)
    await running?.stop()
    const topology = systemTopology(services, system)
    if (call.options.has('json')) call.terminal.json(topology)
    else call.terminal.print(...describe(topology, call.terminal.width))
    return EXIT.ok
  }
}

const check: Command = {
  summary:
    'What of it the broker lacks, or has otherwise; 1 when anything. It changes nothing. ' +
    'RABBITMQ_URL says where; RABBITMQ_MANAGEMENT_URL lets bindings be looked at, too',
  options: APP_OPTION,
  run: async (call) => report(await examineTopology(await brokerOf(call)).catch(explain), call)
}

const apply: Command = {
  summary:
    'Declare what is missing, bindings too, as services do when they start. What is there stays ' +
    'as it is. RABBITMQ_URL says where',
  options: APP_OPTION,
  async run(call) {
    const options = await brokerOf(call)
    const before = await examineTopology(options).catch(explain)
    const topology = systemTopology(options.services, options.system)
    const { problems, findings } = await applyTopology(options.url, topology, options.tls).catch(
      explain
    )
    const made = before.findings
      .filter(({ found }) => found === 'it is missing')
      .map(({ about }) => about)
    if (call.options.has('json')) call.terminal.json({ made, problems, findings })
    else
      call.terminal.print(
        ...made.map((about) => `made ${clean(about)}`),
        ...problems.map(clean),
        `${made.length} made; ${topology.bindings.length} bindings are there`
      )
    return problems.length > 0 ? EXIT.found : EXIT.ok
  }
}

const rights: Command = {
  summary:
    'The least rights on the broker of each service that runs with TOPOLOGY=none, as commands for ' +
    'rabbitmqctl; users are called as their services. RABBITMQ_URL may say which virtual host',
  options: {
    ...APP_OPTION,
    user: { value: 'NAME', help: 'one user for all services of the module' }
  },
  async run(call) {
    const { options, terminal } = call
    const { services, system, running } = await loadServices(call)
    await running?.stop()
    const vhost = vhostOf(terminal.setting('RABBITMQ_URL'))
    const user = options.text('user')
    const users =
      user === undefined
        ? services.map((one) => ({ user: one.name, ...brokerRights([one], system) }))
        : [{ user, ...brokerRights(services, system) }]
    if (options.has('json')) terminal.json(users.map((one) => ({ vhost, ...one })))
    else
      terminal.print(
        ...users.map((one) =>
          ['rabbitmqctl set_permissions -p', quoted(vhost)]
            .concat([one.user, one.configure, one.write, one.read].map(quoted))
            .join(' ')
        )
      )
    return EXIT.ok
  }
}

export const group: Group = {
  show,
  check,
  apply,
  rights,
  'hand-over': handOver,
  'take-over': takeOver
}

/** @throws WrongUsage when it is no URL */
function vhostOf(url: string | undefined): string {
  if (url === undefined) return '/'
  if (!URL.canParse(url)) throw new WrongUsage('RABBITMQ_URL is no amqp:// or amqps:// URL')
  return decodeURIComponent(new URL(url).pathname.slice(1)) || '/'
}

/** For a shell. */
function quoted(text: string): string {
  return `'${clean(text).replaceAll("'", `'\\''`)}'`
}

/** @throws WrongUsage when nobody says where the broker is */
export async function brokerOf(call: Call): Promise<BrokerOptions> {
  const place = brokerPlace(call)
  const { services, system, running } = await loadServices(call)
  await running?.stop()
  return { ...place, services, system }
}

function describe({ exchanges, queues, bindings }: Topology, width: number): string[] {
  return [
    `${exchanges.length} exchanges, fanout and durable`,
    ...exchanges.map((name) => `  ${name}`),
    '',
    `${queues.length} queues, quorum`,
    ...indented(
      table(
        queues,
        [
          { title: 'QUEUE', of: ({ name }: Topology['queues'][number]) => name },
          { title: 'DEAD LETTERS TO', of: (queue) => queue.deadLetterExchange ?? '-' }
        ],
        width - 2
      )
    ),
    '',
    `${bindings.length} bindings`,
    ...bindings.map(
      ({ source, destination, destinationType }) =>
        `  ${source} -> ${destinationType} ${destination}`
    )
  ]
}

function indented(lines: readonly string[]): string[] {
  return lines.map((line) => `  ${line}`)
}

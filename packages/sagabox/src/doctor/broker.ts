import { destinationOf } from '../messaging/message/envelope.ts'
import type { Contract } from '../messaging/message/message.ts'
import { lookAtBroker, type BrokerLook } from '../messaging/rabbitmq/compare.ts'
import type { BrokerTls } from '../messaging/rabbitmq/tls.ts'
import { errorQueue, skippedQueue, type Topology } from '../messaging/transport/topology.ts'
import { systemTopology, type ServiceDefinition } from '../service/define.ts'
import { missingBindings, readBindings, type Bindings } from './bindings.ts'
import { skewOf, type Examination, type Finding } from './finding.ts'

export interface BrokerOptions {
  /** `amqp://user:password@host:port/vhost` */
  url: string
  /** Of RabbitMQ's management API, without which bindings cannot be seen. */
  managementUrl?: string
  tls?: BrokerTls
  services: readonly ServiceDefinition[]
  system: readonly ServiceDefinition[]
}

/** RabbitMQ's. */
const OLDEST = [3, 10]
const DECLARE = 'declare it by sagabox topology apply, or start the service, which does the same'
const BINDINGS_UNSEEN =
  'Bindings were not looked at: AMQP does not tell them. RABBITMQ_MANAGEMENT_URL=http://host:15672 lets the management API be asked'

/**
 * Holds a broker to the topology of services; changes nothing.
 * @throws Unreachable when there is no way to the broker
 */
export async function examineTopology(options: BrokerOptions): Promise<Examination> {
  const topology = systemTopology(options.services, options.system)
  const look = await lookAtBroker(options.url, topology, options.tls)
  const bindings = await bindingsOf(options)
  return {
    findings: [...differences(look), ...bindingFindings(topology, look, bindings)],
    notes: typeof bindings === 'string' ? [bindings] : []
  }
}

/**
 * The same, and what has gathered there: dead letters, clock, version.
 * @throws Unreachable when there is no way to the broker
 */
export async function examineBroker(options: BrokerOptions): Promise<Examination> {
  const { services, system } = options
  const topology = systemTopology(services, system)
  const look = await lookAtBroker(options.url, topology, options.tls)
  const bindings = await bindingsOf(options)
  const skew = typeof bindings === 'string' ? undefined : bindings.skewSeconds
  return {
    findings: [
      ...versionFindings(look),
      ...(skew === undefined ? [] : skewOf('the broker', skew)),
      ...differences(look),
      ...bindingFindings(topology, look, bindings),
      ...(typeof bindings === 'string' ? [] : unbound(services, bindings)),
      ...deadLetters(services, look)
    ],
    notes: [
      `RabbitMQ ${look.version ?? 'of a version that it does not say'}`,
      ...(typeof bindings === 'string' ? [bindings] : [])
    ]
  }
}

/** Or a sentence about why they were not looked at. */
async function bindingsOf({ url, managementUrl }: BrokerOptions): Promise<Bindings | string> {
  if (managementUrl === undefined) return BINDINGS_UNSEEN
  return readBindings(managementUrl, url).catch(
    (error: Error) => `Bindings were not looked at: ${error.message}`
  )
}

function versionFindings({ version }: BrokerLook): Finding[] {
  const [major = 0, minor = 0] = (version ?? '').split('.').map(Number)
  const [oldMajor = 0, oldMinor = 0] = OLDEST
  if (version === undefined || major > oldMajor || (major === oldMajor && minor >= oldMinor))
    return []
  return [
    {
      about: 'the broker',
      found: `RabbitMQ ${version}`,
      expected: `${OLDEST.join('.')} or newer`,
      advice: 'upgrade it: quorum queues lose dead letters before'
    }
  ]
}

function differences({ exchanges, queues, findings, problems }: BrokerLook): Finding[] {
  return [
    ...exchanges.map((name) => missingOne(`exchange ${name}`)),
    ...queues.map((name) => missingOne(`queue ${name}`)),
    ...problems.map((problem) => ({
      about: 'the broker',
      found: problem,
      expected: 'exchanges and queues that the services can use',
      advice: 'do what is said there, or name the service otherwise'
    })),
    ...findings.filter(({ lacks }) => lacks.length > 0).map(different)
  ]
}

function missingOne(about: string): Finding {
  return { about, found: 'it is missing', expected: 'it is there', advice: DECLARE }
}

function different(finding: BrokerLook['findings'][number]): Finding {
  const { queue, exchange, found, lacks, policy } = finding
  return {
    about: queue === undefined ? `exchange ${exchange}` : `queue ${queue}`,
    found: `it was declared otherwise: ${JSON.stringify(found)}`,
    expected: lacks.join('; '),
    advice:
      policy ??
      'stop its services, delete it when it is empty, and start them: what a queue was declared with cannot be changed'
  }
}

/** @param look what is missing itself has no bindings either, which needs no words */
function bindingFindings(
  topology: Topology,
  look: BrokerLook,
  bindings: Bindings | string
): Finding[] {
  if (typeof bindings === 'string') return []
  const gone = new Set([...look.exchanges, ...look.queues])
  return missingBindings(topology, bindings)
    .filter(({ source, destination }) => !gone.has(source) && !gone.has(destination))
    .map(({ source, destination, destinationType }) => ({
      about: `exchange ${source}`,
      found: `it is not bound to the ${destinationType} ${destination}`,
      expected: 'it is bound to it: what is sent there is taken by that endpoint',
      advice: DECLARE
    }))
}

/** Exchanges that are sent to and lead nowhere. */
function unbound(services: readonly ServiceDefinition[], { all }: Bindings): Finding[] {
  const bound = new Set(all.map(({ source }) => source))
  const sent = new Map<string, Contract>(
    services
      .flatMap(({ sends }) => sends)
      .filter((contract) => !contract.optional)
      .map((contract) => [destinationOf(contract), contract])
  )
  return [...sent]
    .filter(([exchange]) => !bound.has(exchange))
    .map(([exchange, contract]) => ({
      about: `exchange ${exchange}`,
      found: 'nothing is bound to it',
      expected: `an endpoint that takes ${contract.name}: until then it waits in the outbox`,
      advice:
        'start the service that takes it; when nobody must, say optional: true in its contract'
    }))
}

function deadLetters(services: readonly ServiceDefinition[], { depths }: BrokerLook): Finding[] {
  return services
    .flatMap(({ name }) => [errorQueue(name), skippedQueue(name)])
    .map((queue) => ({ queue, count: depths.get(queue) ?? 0 }))
    .filter(({ count }) => count > 0)
    .map(({ queue, count }) => ({
      about: `queue ${queue}`,
      found: `${count} dead letters wait in it`,
      expected: 'none: its service collects them into its database',
      advice: 'start the service; then look at them by sagabox letters groups'
    }))
}

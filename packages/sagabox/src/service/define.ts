import type { FastifyPluginAsync } from 'fastify'
import type { Concurrency } from '../messaging/endpoint/endpoint.ts'
import type { Handler } from '../messaging/endpoint/handler.ts'
import { isFault } from '../messaging/message/fault.ts'
import type { Contract } from '../messaging/message/message.ts'
import { ContractRules, InvalidContract } from '../messaging/message/contract-rules.ts'
import { queuesOf } from './queues.ts'
import {
  errorQueue,
  skippedQueue,
  topologyOf,
  type EndpointTopology,
  type Topology
} from '../messaging/transport/topology.ts'
import type { Worker } from '../messaging/async/worker.ts'
import type { SagaDefinition } from '../saga/define.ts'
import { faultsOf } from '../saga/run/faults.ts'
import { consumedBy } from '../saga/run/host.ts'
import { sendsOf } from '../saga/machine/sends.ts'
import type { ServiceContext } from './context.ts'
import { SagaboxError } from '../messaging/errors/sagabox-error.ts'

/** What a service is made of when it runs. */
export interface ServiceParts {
  /** For the contracts that the definition `handles`. */
  readonly handlers?: readonly Handler[]
  /** Fastify plugins; all services of a process share one port. */
  readonly routes?: readonly FastifyPluginAsync[]
  /** Loops beside the endpoint, started when the database is ready. */
  readonly workers?: readonly Worker[]
  /** Where requests wait for their transaction: stopped first. */
  readonly intake?: { stop(): Promise<void> }
}

/** What a service may be declared with. */
export interface ServiceOptions extends ServiceParts {
  /** Each gets handlers, timers and routes of its own. */
  readonly sagas?: readonly SagaDefinition[]
  /** What the handlers that `build` makes will take. */
  readonly handles?: readonly Contract[]
  /**
   * What comes by a queue of another name than the service's: `{ 'order-created': [OrderCreated] }`.
   * Commands that name a queue come by it without being listed.
   */
  readonly queues?: Readonly<Record<string, readonly Contract[]>>
  /**
   * Queues of dead letters of services that are not ours, such as `['stock_error', 'stock_skipped']`:
   * what comes there is collected with the service's own, and sent back to its endpoint.
   */
  readonly lettersOf?: readonly string[] | undefined
  /** What handlers, routes and workers send; what sagas send is read from their machines. */
  readonly sends?: readonly Contract[]
  /**
   * Folders of SQL files, run in the order of their names after the library's own; or SQL itself, run
   * once, in the order of the list.
   */
  readonly migrations?: readonly string[]
  /** How much its endpoint does at once, in each process. */
  readonly concurrency?: Concurrency
  /**
   * Whether queries by `tx.query` and `database.query` are planned as the library's own are: by index
   * wherever one can be used, however small the table, and never past row security. Off unless said.
   */
  readonly avoidScans?: boolean
  /**
   * Makes the parts that need the service's connections; called once, before the database is there.
   */
  build?(context: ServiceContext): ServiceParts
}

/** A service as data: who runs it decides where. */
export interface ServiceDefinition {
  readonly name: string
  readonly consumes: readonly Contract[]
  /** Its queues, and what comes by each. */
  readonly queues: readonly EndpointTopology[]
  readonly sends: readonly Contract[]
  readonly lettersOf: readonly string[]
  readonly sagas: readonly SagaDefinition[]
  readonly migrations: readonly string[]
  readonly concurrency?: Concurrency
  readonly avoidScans: boolean
  /** @throws InvalidService when the handlers are not those that were declared */
  build(
    context: ServiceContext
  ): Required<Omit<ServiceParts, 'intake'>> & Pick<ServiceParts, 'intake'>
}

/** A service that cannot be run as it was written. */
export class InvalidService extends SagaboxError {
  override readonly name = 'InvalidService'
  override readonly code = 'INVALID_SERVICE'
}

/** A prefetch of AMQP has 16 bits. */
const MOST_AT_ONCE = 65_535

const NAME = /^[a-z][a-z0-9-]{0,40}$/

/**
 * Declares a service: an endpoint and its queue, a schema in the database, an outbox with its
 * relay. What it consumes and sends is read from its handlers and sagas.
 * @param name of the endpoint and its queue; the schema is `<name>_service`
 * @throws InvalidService when the name is none, two handlers take one contract, one takes a command
 * of another service, or `concurrency` is no number
 */
export function defineService(name: string, options: ServiceOptions): ServiceDefinition {
  const refuse = (what: string): never => {
    throw new InvalidService(`Service ${name}: ${what}`)
  }
  if (!NAME.test(name)) {
    refuse(
      'expected a name of lower case letters, digits and hyphens, with a letter first, at most 41'
    )
  }
  const { sagas = [], handles = [], sends = [], migrations = [], avoidScans = false } = options
  const { queues = {}, lettersOf = [] } = options
  for (const queue of Object.keys(queues)) new ContractRules(`of ${name}`).entity('queue', queue)
  const ofSagas = new Set(sagas.flatMap((saga) => [...consumedBy(saga), ...faultsOf(saga)]))
  const consumes = [
    ...(options.handlers ?? []).flatMap(({ contracts }) => contracts),
    ...handles,
    ...ofSagas
  ]
  const twice = consumes.find(
    ({ urn }, index) => consumes.findIndex((one) => one.urn === urn) !== index
  )
  if (twice) refuse(`two of its handlers take ${twice.name}; expected one handler a contract`)
  const foreign = consumes.find(({ kind, owner }) => kind === 'command' && owner !== name)
  if (foreign)
    refuse(
      `it takes ${foreign.name}, a command of ${foreign.owner}: commands go to their owner alone, and none would arrive; handle it in ${foreign.owner}, or declare it by contracts('${name}', …)`
    )
  for (const [what, most] of Object.entries(options.concurrency ?? {})) {
    if (!Number.isSafeInteger(most) || most < 1 || most > MOST_AT_ONCE)
      refuse(
        `concurrency.${what} is ${String(most)}; expected a whole number from 1 to ${MOST_AT_ONCE}`
      )
  }
  for (const queue of lettersOf)
    if (!/^[A-Za-z0-9_.:-]+_(error|skipped)$/.test(queue) || isOwn(name, queues, queue))
      refuse(
        `lettersOf names ${queue}; expected queues of others that end in _error or _skipped, such as stock_error`
      )
  return {
    name,
    lettersOf,
    concurrency: options.concurrency,
    consumes,
    queues: queuesOf(name, consumes, queues, refuse),
    sends: [...new Set([...sends, ...sagas.flatMap(sendsOf)])],
    sagas,
    migrations,
    avoidScans,
    build(context) {
      const built = options.build?.(context) ?? {}
      const taken = (built.handlers ?? []).flatMap(({ contracts }) => contracts)
      const idle = handles.find((contract) => !taken.includes(contract))
      if (idle) refuse(`it handles ${idle.name}, and build() returned no handler of it`)
      const unsaid = taken.find((contract) => !handles.includes(contract))
      if (unsaid)
        refuse(
          `build() returned a handler of ${unsaid.name}; expected it among handles, from which the queue's bindings are made`
        )
      const all = <K extends 'handlers' | 'routes' | 'workers'>(part: K) => [
        ...(options[part] ?? []),
        ...(built[part] ?? [])
      ]
      return {
        handlers: all('handlers'),
        routes: all('routes'),
        workers: all('workers'),
        intake: built.intake ?? options.intake
      }
    }
  }
}

/**
 * What services exchange with each other and with the rest of their system.
 * @param own those of this process: their endpoints are declared
 * @param system all services; the others' endpoints are theirs to declare, with arguments of their
 * own (they may be .NET's)
 * @throws InvalidContract when two contracts of one urn are not the same
 */
export function systemTopology(
  own: readonly ServiceDefinition[],
  system: readonly ServiceDefinition[] = own
): Topology {
  const others = system.filter(({ name }) => own.every((one) => one.name !== name))
  mustAgree(system.flatMap(({ consumes, sends }) => [...consumes, ...sends]))
  const queues = (services: readonly ServiceDefinition[]) => services.flatMap((one) => one.queues)
  return topologyOf(queues(own), sentBy(own, system), queues(others))
}

/** What services send, to whom ever in the system. */
export function sentBy(
  own: readonly ServiceDefinition[],
  system: readonly ServiceDefinition[]
): Contract[] {
  const taken = system.flatMap(({ consumes }) => consumes)
  const sent = own.flatMap(({ name, sends }) => [
    ...sends,
    // What a handler returns stands in its code alone: who owns an event publishes it.
    ...taken.filter(
      (one) => one.kind === 'event' && one.owner === name && !isFault(one) && !one.foreign
    )
  ])
  return [...new Set(sent)]
}

/** Two contracts of one urn are the same to whoever receives them, and must be it to us. */
function mustAgree(contracts: readonly Contract[]): void {
  const known = new Map<string, Contract>()
  for (const contract of contracts) {
    const other = known.get(contract.urn) ?? contract
    known.set(contract.urn, other)
    if (other === contract) continue
    const differs = (['kind', 'owner', 'queue', 'exchange', 'correlateBy', 'schema'] as const).find(
      (part) => JSON.stringify(other[part]) !== JSON.stringify(contract[part])
    )
    if (differs !== undefined)
      throw new InvalidContract(
        `Two contracts of the system are ${contract.urn}, of ${other.owner} and of ${contract.owner}, and differ in their ${differs}; declare it once and import it where it is used, or give one of them another name or namespace`
      )
  }
}

function isOwn(name: string, queues: object, letters: string): boolean {
  return [name, ...Object.keys(queues)].some(
    (queue) => letters === errorQueue(queue) || letters === skippedQueue(queue)
  )
}

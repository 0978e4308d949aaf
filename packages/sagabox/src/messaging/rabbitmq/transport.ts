import type { Channel, Connection, Message as AmqpMessage } from 'amqplib/callback_api.js'
import { AwaitedEndpoints } from '../transport/awaited-endpoints.ts'
import { backoff, pause } from '../async/batcher.ts'
import type { Log } from '../async/log.ts'
import {
  CLOSE_TIMEOUT_MS,
  closeConnection,
  keepAlive,
  openChannel,
  SETUP_TIMEOUT_MS,
  Unreachable
} from './connection.ts'
import { ForeignExchanges } from './foreign-exchanges.ts'
import { ask, whyUnreachable, type Question } from './look.ts'
import { answerQueue } from './answers.ts'
import { isNack, RabbitPublisher } from './publisher.ts'
import { Blame } from './blame.ts'
import { explainRefusal } from './refusal.ts'
import { packWrites, surviveProperties } from './amqplib-patches.ts'
import { probeAmqplib } from './probe-amqplib.ts'
import { AMQPLIB_PATCHES, FRAMES } from '../../quick-ways.ts'
import { RabbitSubscription } from './subscription.ts'
import { survey, type Finding } from './survey.ts'
import { connectionOf, declareTopology, type RascalBroker } from './rascal.ts'
import type { Adopted } from './rascal-config.ts'
import { mustBeThere, TopologyMissing } from './topology-missing.ts'
import { tlsOptions, type BrokerTls } from './tls.ts'
import { addressOf, type Topology } from '../transport/topology.ts'
import {
  PublishInterrupted,
  PublishRefused,
  queueOf,
  type Answers,
  type Delivery,
  type TransportMessage,
  type PublishOutcome,
  type Subscription,
  type Transport
} from '../transport/transport.ts'
import { atMost, orTimeout } from '../async/timeout.ts'

/** Messages handed out and not yet acknowledged: one batch at work and one arriving behind it. */
const PREFETCH = 200

/**
 * How often it is looked for endpoints that have never been there, ms: soon at first. Each look is
 * a line in the broker's log.
 */
const LOOK_MIN_MS = 250
const LOOK_MAX_MS = 5000

/** A part of the topology that the broker refused. */
const DECLARING = /^Operation failed: (Queue|Exchange)(Declare|Bind)/

const NO_TOPOLOGY: Topology = {
  exchanges: [],
  queues: [],
  bindings: [],
  elsewhere: [],
  foreign: []
}

/** Where the broker is, and what is declared there. */
export interface RabbitTransportOptions {
  /** `amqp://user:password@host:port/vhost` */
  url: string
  /** For `amqps://`. */
  tls?: BrokerTls
  topology: Topology
  /**
   * Whether exchanges, queues and bindings are made here; they are when not said otherwise. Else
   * they are looked for, and waited for, and no right to configure is needed.
   */
  declares?: boolean
  clientName: string
  log: Log
}

/**
 * RabbitMQ by Rascal, which owns configuration, topology and connections; messages bypass it over
 * channels of `broker.connect()`. So publishing costs 20 µs of CPU a message instead of 180–270,
 * consuming 13 instead of 35, and no header is interpreted on the way (docs/decisions). Publisher
 * and consumers have connections of their own: acknowledgements flow while publishers are blocked.
 */
export class RabbitTransport implements Transport {
  readonly address: string
  readonly awaited: AwaitedEndpoints
  readonly #options: RabbitTransportOptions
  readonly #stopping = new AbortController()
  readonly #stopped = new Promise<undefined>((resolve) =>
    this.#stopping.signal.addEventListener('abort', () => resolve(undefined))
  )
  readonly #subscriptions = new Set<RabbitSubscription>()
  #broker: RascalBroker | undefined
  #declaring: Promise<RascalBroker> | undefined
  /** A session ended: the topology may have gone with it, and is declared again before the next. */
  #undeclared = true
  /** What was there already, declared in another way. */
  #adopted: Adopted | undefined
  /** Findings that were logged. */
  readonly #said = new Set<string>()
  #publisher: RabbitPublisher | undefined
  #problem: string | undefined = 'not connected to RabbitMQ yet'
  #blocked: string | undefined
  /** The reason last logged for not reaching the broker. */
  #complaint: string | undefined
  #publishing: Promise<void> | undefined
  #flowing: () => void = () => {}
  /** Endpoints of which was logged that they have never been there. */
  readonly #waitedFor = new Set<string>()
  /** The publisher's, while there is one. */
  #connection: Connection | undefined
  /**
   * What came back as unroutable and whose confirm is still to come: the return precedes the
   * confirm. How many, by `returnKey`.
   */
  readonly #returned = new Map<string, number>()
  readonly #unconfirmed = new Map<(error: Error) => void, TransportMessage>()
  readonly #exchanges: ReadonlySet<string>
  readonly #foreign: ForeignExchanges
  /** What has taken the channel from all others, or may: it goes over a channel of its own. */
  readonly #blame = new Blame()

  /** @throws InvalidTls when the files of `tls` cannot be used */
  constructor(options: RabbitTransportOptions) {
    tlsOptions(options.url, options.tls)
    this.#options = options
    this.#exchanges = new Set(options.topology.exchanges)
    this.#foreign = new ForeignExchanges(options.topology.foreign, options.log, this.#declares)
    this.address = busAddress(options.url)
    this.awaited = new AwaitedEndpoints(options.topology.elsewhere)
  }

  start(flowing: () => void): void {
    this.#flowing = flowing
    this.#publishing ??= keepAlive(
      () => this.#publishingSession(),
      this.#stopping.signal,
      (error) => {
        this.#problem = `cannot publish to RabbitMQ: ${error.message}`
        if (!(error instanceof Unreachable))
          this.#options.log.warn(
            { reason: error.message },
            'Publishing was interrupted; messages wait in the outbox'
          )
      }
    )
  }

  readonly keeps = true

  get canPublish(): boolean {
    return this.#publisher !== undefined && this.#blocked === undefined
  }

  /** What its queue holds ready: what is handed out is not counted. */
  async depthOf(endpoint: string): Promise<number | undefined> {
    if (!this.#connection) return undefined
    let depth: number | undefined
    const question: Question = (channel, answered) =>
      channel.checkQueue(endpoint, (error: Error | null, found?: { messageCount: number }) => {
        depth = found?.messageCount
        answered(error)
      })
    // What is not there, or is going, has no depth.
    await ask(this.#connection, [question]).catch(() => {})
    return depth
  }

  problem(): string | undefined {
    return (
      this.#problem ??
      this.#blocked ??
      [...this.#subscriptions]
        .map((subscription) => subscription.problem())
        .find((problem) => problem !== undefined)
    )
  }

  get unusable(): readonly string[] {
    return this.#foreign.problems
  }

  knows(destination: string): boolean {
    return (
      this.#exchanges.has(destination) ||
      this.#options.topology.foreign.some(({ exchange }) => exchange === destination)
    )
  }

  publish(message: TransportMessage): Promise<PublishOutcome> {
    if (this.#publisher && this.awaited.before(message.destination).length > 0)
      return Promise.resolve('awaited')
    let isThere =
      this.#exchanges.has(message.destination) || queueOf(message.destination) !== undefined
    if (!isThere) {
      const { exchange } = addressOf(message.destination)
      const problem = this.#foreign.problem(exchange)
      if (problem !== undefined) return Promise.reject(new PublishRefused('destination', problem))
      isThere = this.#foreign.has(exchange)
    }
    if (!isThere || this.#blame.suspects(message)) return this.#publishAlone(message)
    return new Promise((resolve, reject) => {
      if (!this.#publisher) return reject(new Error(this.#problem ?? 'no channel to RabbitMQ'))
      this.#unconfirmed.set(reject, message)
      this.#publisher.publish(message, (error) => {
        this.#unconfirmed.delete(reject)
        if (!error)
          resolve(
            message.required && this.#returned.size > 0 && this.#cameBack(message)
              ? 'returned'
              : 'accepted'
          )
        else if (isNack(error)) resolve('refused')
        else reject(error)
      })
    })
  }

  /**
   * A return tells of the exchange and the message's id; the same may be under way more than once.
   */
  #cameBack({ destination, messageId }: TransportMessage): boolean {
    const key = returnKey(addressOf(destination).exchange, messageId)
    const count = this.#returned.get(key)
    if (count === undefined) return false
    if (count > 1) this.#returned.set(key, count - 1)
    else this.#returned.delete(key)
    return true
  }

  /** Over a channel that nobody else loses when the broker closes it because of this message. */
  async #publishAlone(message: TransportMessage): Promise<PublishOutcome> {
    if (!this.#connection) throw new Error(this.#problem ?? 'no connection to RabbitMQ')
    const { channel, closed } = await openChannel(this.#connection, 'confirm')
    let reason: Error | undefined
    let cameBack = false
    channel.on('error', (error: Error) => (reason = error))
    channel.on('return', () => (cameBack = true))
    try {
      const confirmed = new Promise<Error | null>((resolve) =>
        new RabbitPublisher(channel).publish(message, resolve)
      )
      const error = await Promise.race([
        confirmed,
        closed.then((lost) => lost ?? new Error('the channel closed before the confirm'))
      ])
      if (error && !isNack(error))
        throw this.#blame.refusalOf(reason ?? error, message) ?? reason ?? error
      this.#blame.acquit(message)
      return error ? 'refused' : cameBack ? 'returned' : 'accepted'
    } finally {
      closeChannel(channel)
    }
  }

  /**
   * The broker closed the channel: whoever was the cause gets the answer, and the others no blame.
   */
  #channelFailed(error: Error): void {
    this.#publisher = undefined
    this.#connection = undefined
    const messages = [...this.#unconfirmed]
    if (
      !this.#blame.assign(
        error,
        messages.map(([, message]) => message)
      )
    )
      return
    for (const [reject, message] of messages)
      reject(this.#blame.refusalOf(error, message) ?? new PublishInterrupted(error.message))
  }

  subscribe(
    endpoint: string,
    receive: (delivery: Delivery) => void,
    most = PREFETCH,
    mayLack = false
  ): Subscription {
    const subscription = new RabbitSubscription({
      endpoint,
      receive,
      most,
      mayLack,
      connect: () => this.#connect(),
      log: this.#options.log
    })
    this.#subscriptions.add(subscription)
    subscription.start()
    return {
      cancel: async () => {
        this.#subscriptions.delete(subscription)
        await subscription.cancel()
      }
    }
  }

  takeAnswers(receive: (delivery: Delivery) => void): Answers {
    const { address } = this
    const { log } = this.#options
    return answerQueue({ address, receive, connect: () => this.#connect(), log })
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await atMost(CLOSE_TIMEOUT_MS, this.#publishing)
    await atMost(CLOSE_TIMEOUT_MS, this.#broker?.shutdown())
  }

  /**
   * A new connection, to a broker that has our topology.
   * @throws Unreachable
   */
  async #connect(): Promise<Connection> {
    try {
      if (this.#undeclared)
        this.#declaring ??= this.#declare().finally(() => (this.#declaring = undefined))
      const broker = (await this.#declaring) ?? this.#broker!
      // A Rascal broker that is shut down meanwhile, because another session has declared the
      // topology anew, never answers.
      const connecting = connectionOf(broker)
      const connection = await orTimeout(
        SETUP_TIMEOUT_MS,
        'RabbitMQ gave no connection',
        connecting,
        closeConnection
      )
      connection.once('close', () => (this.#undeclared = true))
      // Without a listener an `error` event would end the process, and a probe takes turns.
      connection.on('error', () => {})
      await probeAmqplib(connection)
      for (const way of [FRAMES, AMQPLIB_PATCHES]) way.tell(this.#options.log)
      if (AMQPLIB_PATCHES.isOpen) {
        packWrites(connection)
        surviveProperties(connection)
      }
      this.#complaint = undefined
      return connection
    } catch (error) {
      // Rascal hides of the URL what follows the password's last colon.
      const said = ((error as Error).message || String(error)).replaceAll(
        /amqps?:\/\/\S+/g,
        this.address
      )
      const reason = await explainRefusal(said, this.#options.url, this.#options.tls)
      // One line for an outage, however often it is tried and whoever tries.
      if (reason !== this.#complaint && !this.#stopping.signal.aborted)
        this.#options.log.warn(
          { reason },
          error instanceof TopologyMissing
            ? 'RabbitMQ lacks what this process uses; waiting for it'
            : 'Cannot reach RabbitMQ; trying again until it answers'
        )
      this.#complaint = reason
      throw new Unreachable(reason, { cause: error })
    }
  }

  get #declares(): boolean {
    return this.#options.declares ?? true
  }

  /** Declares the topology; what is there already stays as it is, and is used as it is. */
  async #declare(): Promise<RascalBroker> {
    const { log } = this.#options
    const before = this.#broker
    const broker = await this.#createBroker().catch(async (error: Error) => {
      if (!DECLARING.test(error.message)) throw error
      this.#adopted = await this.#survey()
      return this.#createBroker()
    })
    // Without a listener an `error` event ends the process; the sessions say what is wrong.
    broker.on('error', (error: Error) =>
      log.debug({ err: error }, 'Rascal lost its connection to RabbitMQ')
    )
    if (!this.#declares)
      await this.#mustBeThere(broker).catch(async (error: unknown) => {
        await atMost(CLOSE_TIMEOUT_MS, broker.shutdown())
        throw error
      })
    this.#broker = broker
    this.#undeclared = false
    await atMost(CLOSE_TIMEOUT_MS, before?.shutdown())
    return broker
  }

  #createBroker(): Promise<RascalBroker> {
    const { topology, url, clientName, tls } = this.#options
    const declared = this.#declares ? topology : NO_TOPOLOGY
    return declareTopology(declared, url, clientName, this.#adopted, tls)
  }

  /** @throws TopologyMissing */
  async #mustBeThere(broker: RascalBroker): Promise<void> {
    const connection = await orTimeout(
      SETUP_TIMEOUT_MS,
      'RabbitMQ gave no connection',
      connectionOf(broker),
      closeConnection
    )
    connection.on('error', () => {}) // What is asked on it fails with it.
    try {
      await mustBeThere(connection, this.#options.topology)
    } finally {
      await closeConnection(connection)
    }
  }

  /**
   * Looks what is there already, after the broker has refused some of the topology.
   * @throws Error about what cannot be used
   */
  async #survey(): Promise<Adopted> {
    const { topology, url, clientName, tls } = this.#options
    const broker = await declareTopology(NO_TOPOLOGY, url, clientName, undefined, tls)
    broker.on('error', () => {}) // What is asked on the connection fails with it.
    try {
      const connecting = connectionOf(broker)
      const connection = await orTimeout(
        SETUP_TIMEOUT_MS,
        'RabbitMQ gave no connection',
        connecting,
        closeConnection
      )
      connection.on('error', () => {})
      const vhost = decodeURIComponent(new URL(url).pathname.slice(1)) || '/'
      const surveyed = survey(connection, topology, vhost).finally(
        () => void closeConnection(connection)
      )
      const { adopted, findings, problems } = await surveyed
      for (const finding of findings) this.#say(finding)
      if (problems.length > 0) throw new Error(firstOf(problems))
      return adopted
    } finally {
      await atMost(CLOSE_TIMEOUT_MS, broker.shutdown())
    }
  }

  /** Once for the life of the process. */
  #say(finding: Finding): void {
    const text = JSON.stringify(finding)
    if (this.#said.has(text)) return
    this.#said.add(text)
    const { lacks, policy, ...found } = finding
    if (lacks.length === 0)
      return this.#options.log.info(
        found,
        'It was declared in another way before, and is used as it is'
      )
    const but = 'and is used as it is; unless a policy adds it, it lacks something'
    this.#options.log.warn(
      { ...found, lacks, policy },
      `It was declared in another way before, ${but}`
    )
  }

  /**
   * Looks for endpoints that have not been seen on this connection. Returns whether one was found.
   */
  async #look(connection: Connection): Promise<boolean> {
    const { missing } = this.awaited
    const { log } = this.#options
    for (const one of missing) {
      const reason = await whyUnreachable(connection, one, this.#declares)
      if (reason === undefined) {
        this.awaited.seen(one.endpoint)
        if (!this.#waitedFor.delete(one.endpoint)) continue
        log.info({ endpoint: one.endpoint }, 'The endpoint is there; what waited for it goes')
      } else if (!this.#waitedFor.has(one.endpoint)) {
        this.#waitedFor.add(one.endpoint)
        const text =
          'The endpoint has never been started: what it takes waits in the outbox until it is'
        log.warn({ endpoint: one.endpoint, reason }, text)
      }
    }
    return this.awaited.missing.length < missing.length
  }

  /** Looks again and again, as long as something is missing. */
  async #lookOut(connection: Connection, ended: AbortSignal): Promise<void> {
    for (let looks = 1; this.awaited.missing.length > 0 && !ended.aborted; looks++) {
      await pause(backoff(looks, LOOK_MIN_MS, LOOK_MAX_MS), ended)
      // While the broker blocks the connection, it answers nothing.
      if (ended.aborted || this.#blocked) continue
      try {
        if (await this.#look(connection)) this.#flowing()
      } catch (error) {
        this.#options.log.debug({ err: error }, 'Could not look for endpoints; looking again')
      }
    }
  }

  /** One life of the publishing connection. */
  async #publishingSession(): Promise<void> {
    const { log } = this.#options
    const connection = await this.#connect()
    const ended = new AbortController()
    this.awaited.reset()
    try {
      connection.on('blocked', (reason: unknown) => {
        this.#blocked = `RabbitMQ blocks publishing: ${String(reason)}`
        log.warn({ reason }, 'RabbitMQ blocks publishing; messages wait in the outbox')
      })
      connection.on('unblocked', () => {
        this.#blocked = undefined
        log.info({}, 'RabbitMQ takes messages again')
        this.#flowing()
      })
      const { channel, closed } = await openChannel(connection, 'confirm')
      channel.on('return', ({ fields, properties }: AmqpMessage) => {
        const key = returnKey(fields.exchange, String(properties.messageId))
        this.#returned.set(key, (this.#returned.get(key) ?? 0) + 1)
      })
      // Before amqplib tells everybody that the channel is closed.
      channel.on('error', (error: Error) => this.#channelFailed(error))
      await this.#look(connection)
      this.#connection = connection
      this.#publisher = new RabbitPublisher(channel)
      this.#problem = undefined
      log.info({}, 'Connected to RabbitMQ')
      this.#flowing()
      const over = AbortSignal.any([ended.signal, this.#stopping.signal])
      void this.#lookOut(connection, over)
      void this.#foreign.watch(connection, over, () => this.#flowing())
      const lost = await Promise.race([closed, this.#stopped])
      if (!this.#stopping.signal.aborted) throw lost ?? new Error('the connection closed')
    } finally {
      ended.abort()
      this.#publisher = undefined
      this.#connection = undefined
      this.#blocked = undefined
      for (const reject of this.#unconfirmed.keys())
        reject(new Error('the channel closed before the confirm'))
      this.#unconfirmed.clear()
      this.#returned.clear()
      await closeConnection(connection)
    }
  }
}

/**
 * The address of the bus as MassTransit has it: `rabbitmq://host/`, and a virtual host other than
 * `/` percent-encoded behind it.
 */
export function busAddress(url: string): string {
  const { hostname, port, pathname } = new URL(url)
  const vhost = decodeURIComponent(pathname.slice(1))
  // .NET's Uri.EscapeDataString leaves letters, digits and -_.~ as they are.
  const hex = (character: string) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`
  const escaped = encodeURIComponent(vhost).replace(/[!'()*]/g, hex)
  const bus = `rabbitmq://${hostname}${port && port !== '5672' ? `:${port}` : ''}/`
  return vhost === '' || vhost === '/' ? bus : `${bus}${escaped}/`
}

/** Where nothing can be declared, three of them say it as well as all. */
function firstOf(problems: readonly string[]): string {
  const more = problems.length - 3
  return problems.slice(0, 3).join('; ') + (more > 0 ? `; and ${more} more` : '')
}

function returnKey(exchange: string, messageId: string): string {
  return `${messageId} ${exchange}`
}

function closeChannel(channel: Channel): void {
  try {
    channel.close(() => {})
  } catch {
    // amqplib throws when it is closed already, which is what was wanted.
  }
}

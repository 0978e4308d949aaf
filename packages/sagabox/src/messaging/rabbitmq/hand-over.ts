// Another declaration of an endpoint's queues, while others publish: what waits and what comes is
// kept in queues of their own meanwhile.
import type { Connection, Message } from 'amqplib/callback_api.js'
import { pause } from '../async/batcher.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'
import { errorQueue, skippedQueue } from '../transport/topology.ts'
import { ask, exchangeIsThere, queueState, refusalOf, type Question } from './look.ts'
import { keyOf, lookThrough, moveAll, QueueInUse } from './move.ts'
import { EXCHANGE, queueArguments } from './rascal-config.ts'
import { learnQueue } from './survey.ts'
import type { BrokerTls } from './tls.ts'
import { withConnection } from './visit.ts'

/** How often it is looked whether the new queue is there, ms; each look is a line in the broker's log. */
const LOOK_MS = 250
/** How often it is said that it is not, ms. */
const SAID_EACH_MS = 5000
/** What nobody but this file puts into a queue. */
const MARK = 'sagabox-hand-over'

/** It cannot be done as things are; nothing is lost, and it goes on when it is run again. */
export class NotHandedOver extends SagaboxError {
  override readonly name = 'NotHandedOver'
  override readonly code = 'NOT_HANDED_OVER'
}

/** A binding of a queue: what comes from an exchange. */
export interface QueueBinding {
  queue: string
  source: string
  key: string
  arguments: Readonly<Record<string, unknown>>
}

export interface HandOverOptions {
  connection: Connection
  endpoint: string
  /**
   * Who declares the queues anew: `others` are waited for, `ours` have the arguments of Sagabox.
   */
  by: 'others' | 'ours'
  /** Beside those of the exchange of the queue's own name. */
  bindings: readonly QueueBinding[]
  /** How long others are waited for, ms. */
  waitMs: number
  /** When nothing came for so long, ms, nothing is under way any more. */
  settledMs: number
  interrupted: AbortSignal
  /** Told what was done; when it throws, all stays as it is. */
  done(what: string): void
}

/** The queue in which a queue's messages are kept. */
export function holdingQueue(queue: string): string {
  return `${queue}_held`
}

/**
 * Has an endpoint's queues declared anew. Where it is in that, the broker alone knows, so that it
 * goes on whenever it is run again:
 *
 * 1. Holding queues get the bindings, the queues lose them, and what waits is moved over.
 * 2. The queues are deleted; others declare theirs, or we ours.
 * 3. Those get the bindings, the holding queues lose them, are poured back, and deleted.
 *
 * While two queues have the bindings, a message comes to both. What has an id is kept once when it
 * is moved over; what is published in the moment of 3 may come twice.
 */
export class HandOver {
  readonly #options: HandOverOptions
  readonly #queues: readonly string[]
  readonly #drained: string
  readonly #pouring: string
  /** Queues that this run has emptied: they are not declared anew yet. */
  readonly #emptied = new Set<string>()

  constructor(options: HandOverOptions) {
    this.#options = options
    const { endpoint } = options
    this.#queues = [endpoint, errorQueue(endpoint), skippedQueue(endpoint)]
    this.#drained = `${holdingQueue(endpoint)}_drained`
    this.#pouring = `${holdingQueue(endpoint)}_pouring`
  }

  /**
   * @throws NotHandedOver, QueueInUse; Error of the broker
   */
  async run(): Promise<void> {
    if (!(await this.#isMarked(this.#pouring))) {
      if (!(await this.#isMarked(this.#drained))) await this.#collect()
      await this.#replace()
    }
    await this.#pourBack()
  }

  async #collect(): Promise<void> {
    const { endpoint } = this.#options
    const queues = await this.#there()
    const holding = await Promise.all(this.#queues.map((one) => this.#isThere(holdingQueue(one))))
    if (!queues.includes(endpoint) && !holding.includes(true))
      throw new NotHandedOver(`there is no queue ${endpoint}; expected the name of an endpoint`)
    await this.#mustBeIdle(queues)
    for (const queue of queues) await this.#hold(queue)
    for (const queue of queues) {
      await this.#moveOver(queue)
      await this.#leaveMark(queue)
      this.#emptied.add(queue)
    }
    await this.#mark(this.#drained)
    this.#options.done('what waited is kept')
  }

  async #mustBeIdle(queues: readonly string[]): Promise<void> {
    for (const queue of queues) {
      const { consumers = 0 } = (await queueState(this.#options.connection, queue)) ?? {}
      if (consumers > 0)
        throw new QueueInUse(
          `${queue} has ${consumers === 1 ? 'a consumer' : `${consumers} consumers`}: stop the service that takes it, and run this again`
        )
    }
  }

  /** From now on what is published comes to the holding queue. */
  async #hold(queue: string): Promise<void> {
    const holding = holdingQueue(queue)
    await this.#ask((channel, answered) =>
      channel.assertQueue(
        holding,
        { durable: true, arguments: queueArguments(undefined) },
        answered
      )
    )
    const bindings = await this.#bindingsOf(queue)
    for (const binding of bindings) await this.#bind(holding, binding)
    this.#options.done(`${holding} is bound as ${queue} is`)
    for (const { source, key, arguments: more } of bindings)
      await this.#ask((channel, answered) =>
        channel.unbindQueue(queue, source, key, more, answered)
      )
    this.#options.done(`${queue} gets nothing more`)
  }

  async #moveOver(queue: string): Promise<void> {
    const { connection, settledMs, done } = this.#options
    const holding = holdingQueue(queue)
    const kept = await this.#keysIn(holding)
    const count = await moveAll(connection, {
      from: queue,
      to: holding,
      settledMs,
      isNeedless: (message) => {
        if (isMark(message)) return true
        const key = keyOf(message)
        return key !== undefined && kept.has(key)
      },
      moved: (some) => done(`${some} messages of ${queue} moved to ${holding}`)
    })
    done(`${count} messages of ${queue} moved to ${holding}`)
  }

  /** What came while both queues had the bindings, or was moved before somebody was killed. */
  async #keysIn(queue: string): Promise<ReadonlySet<string>> {
    const { connection, settledMs } = this.#options
    const keys = new Set<string>()
    const { messages = 0 } = (await queueState(connection, queue)) ?? {}
    if (messages === 0) return keys
    await lookThrough(connection, queue, messages, settledMs, (message) => {
      const key = keyOf(message)
      if (key !== undefined) keys.add(key)
    })
    return keys
  }

  async #replace(): Promise<void> {
    const { endpoint, by, done } = this.#options
    for (const queue of await this.#there()) {
      if (!this.#emptied.has(queue) && !(await this.#isOld(queue))) continue
      await this.#emptyAgain(queue)
      await this.#ask((channel, answered) => channel.deleteQueue(queue, {}, answered))
      done(`${queue} is deleted`)
    }
    if (by === 'others') await this.#awaitNew()
    else {
      await this.#declare(endpoint, queueArguments(errorQueue(endpoint)))
      for (const queue of this.#queues.slice(1))
        await this.#declare(queue, queueArguments(undefined))
      done(`${this.#queues.join(', ')} are declared as Sagabox declares them`)
    }
    await this.#mark(this.#pouring)
  }

  async #awaitNew(): Promise<void> {
    const { endpoint, interrupted, waitMs, done } = this.#options
    const began = performance.now()
    let sayAt = 0
    while (!(await this.#isThere(endpoint))) {
      const waited = performance.now() - began
      const kept = `what comes is kept in ${holdingQueue(endpoint)}`
      if (interrupted.aborted || waited > waitMs)
        throw new NotHandedOver(
          `${endpoint} has not been declared${interrupted.aborted ? '' : ` in ${Math.round(waitMs / 1000)} s`}; ${kept}, and this goes on when it is run again`
        )
      if (waited >= sayAt) {
        done(
          `waiting until ${endpoint} is declared (${Math.round(waited / 1000)} s): start its service; ${kept}`
        )
        sayAt = waited + SAID_EACH_MS
      }
      await pause(LOOK_MS, interrupted)
    }
  }

  async #pourBack(): Promise<void> {
    for (const queue of this.#queues)
      if (await this.#isThere(holdingQueue(queue))) await this.#pour(queue)
    for (const mark of [this.#drained, this.#pouring])
      await this.#ask((channel, answered) => channel.deleteExchange(mark, {}, answered))
    this.#options.done('all is poured back')
  }

  async #pour(queue: string): Promise<void> {
    const { connection, settledMs, done } = this.#options
    const holding = holdingQueue(queue)
    const isThere = await this.#isThere(queue)
    const { messages } = (await queueState(connection, holding))!
    // MassTransit declares it when it first needs it, with what it then finds right.
    if (isThere || messages > 0) {
      if (!isThere) await this.#declareLike(queue)
      const bindings = await this.#bindingsOf(queue)
      for (const binding of bindings) await this.#bind(queue, binding)
      for (const { source, key, arguments: more } of bindings)
        await this.#ask((channel, answered) =>
          channel.unbindQueue(holding, source, key, more, answered)
        )
      done(`${queue} is there again, and gets what is published`)
      const count = await moveAll(connection, {
        from: holding,
        to: queue,
        settledMs,
        moved: (some) => done(`${some} messages of ${holding} moved to ${queue}`)
      })
      done(`${count} messages of ${holding} moved to ${queue}`)
    }
    await this.#ask((channel, answered) => channel.deleteQueue(holding, {}, answered))
    done(`${holding} is deleted`)
  }

  /** As MassTransit does: with the arguments of the endpoint's own queue. */
  async #declareLike(queue: string): Promise<void> {
    const { connection, endpoint, by } = this.#options
    const learned = await learnQueue(connection, endpoint, errorQueue(endpoint))
    const isKnown = typeof learned === 'object' && by === 'others'
    await this.#declare(queue, isKnown ? learned.arguments : queueArguments(undefined))
  }

  async #declare(queue: string, given: object): Promise<void> {
    if (!(await this.#isExchange(queue)))
      await this.#ask((channel, answered) =>
        channel.assertExchange(queue, EXCHANGE.type, EXCHANGE.options, answered)
      )
    // What is there by now is used as it is.
    if (await this.#isThere(queue)) return
    await this.#ask((channel, answered) =>
      channel.assertQueue(queue, { durable: true, arguments: given }, answered)
    )
  }

  /** Not declared anew yet: what was put there last is in it. */
  async #isOld(queue: string): Promise<boolean> {
    const { consumers = 0 } = (await queueState(this.#options.connection, queue)) ?? {}
    if (consumers > 0) return false
    let isOld = false
    await this.#ask((channel, answered) =>
      channel.get(queue, {}, (error, message) => {
        isOld = !error && message !== false && message !== undefined && isMark(message)
        if (message && !isOld) channel.nack(message)
        answered(error as Error | null)
      })
    )
    return isOld
  }

  async #bindingsOf(queue: string): Promise<Omit<QueueBinding, 'queue'>[]> {
    const own = { source: queue, key: '', arguments: {} }
    const others = this.#options.bindings.filter(
      (one) => [queue, holdingQueue(queue)].includes(one.queue) && one.source !== queue
    )
    return (await this.#isExchange(queue)) ? [own, ...others] : others
  }

  #bind(queue: string, { source, key, arguments: more }: Omit<QueueBinding, 'queue'>) {
    return this.#ask((channel, answered) => channel.bindQueue(queue, source, key, more, answered))
  }

  /** What a consumer that was ending has given back since, or somebody sent to the queue itself. */
  async #emptyAgain(queue: string): Promise<void> {
    const { connection } = this.#options
    for (;;) {
      const { messages = 0 } = (await queueState(connection, queue)) ?? {}
      if (messages <= 1) return
      await this.#moveOver(queue)
      await this.#leaveMark(queue)
    }
  }

  /** By it an old queue is told from a new one, whoever looks. */
  #leaveMark(queue: string): Promise<void> {
    return this.#ask((channel, answered) => {
      channel.sendToQueue(queue, Buffer.from('{}'), { persistent: true, headers: { [MARK]: 1 } })
      // Answered after what was sent before it on the same channel.
      channel.checkQueue(queue, answered)
    })
  }

  /** The broker is told how far it is. */
  async #mark(mark: string): Promise<void> {
    await this.#ask((channel, answered) =>
      channel.assertExchange(mark, EXCHANGE.type, EXCHANGE.options, answered)
    )
  }

  #isMarked(mark: string): Promise<boolean> {
    return this.#isExchange(mark)
  }

  async #there(): Promise<string[]> {
    const there: string[] = []
    for (const queue of this.#queues) if (await this.#isThere(queue)) there.push(queue)
    return there
  }

  async #isThere(queue: string): Promise<boolean> {
    return (await queueState(this.#options.connection, queue)) !== undefined
  }

  async #isExchange(name: string): Promise<boolean> {
    return (await refusalOf(this.#options.connection, [exchangeIsThere(name)])) === undefined
  }

  #ask(question: Question): Promise<void> {
    return ask(this.#options.connection, [question])
  }
}

/**
 * Does it by a connection of its own.
 * @throws Unreachable when there is no way to the broker; NotHandedOver
 */
export async function handOver(
  url: string,
  tls: BrokerTls | undefined,
  options: Omit<HandOverOptions, 'connection'>
): Promise<void> {
  try {
    await withConnection(url, tls, (connection) => new HandOver({ ...options, connection }).run())
  } catch (error) {
    if (!(error instanceof QueueInUse)) throw error
    throw new NotHandedOver(error.message, { cause: error })
  }
}

function isMark({ properties }: Message): boolean {
  return Object.hasOwn(properties.headers ?? {}, MARK)
}

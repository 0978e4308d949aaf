import { pause } from '../async/batcher.ts'
import type { Log } from '../async/log.ts'
import { atMost } from '../async/timeout.ts'
import { AskedInTransaction } from '../message/asked.ts'
import { InvalidDuration, milliseconds } from '../message/duration.ts'
import { destinationOf, EnvelopeReader, EnvelopeWriter } from '../message/envelope.ts'
import { FAULT } from '../message/fault.ts'
import { newId } from '../message/id.ts'
import type { BodyOf, Contract, Message, RequestContract } from '../message/message.ts'
import { Reading } from '../transport/reading.ts'
import {
  PublishRefused,
  type Answers,
  type Delivery,
  type PublishOutcome,
  type Transport
} from '../transport/transport.ts'
import {
  RequestAborted,
  RequestFailed,
  RequestNotSent,
  RequestTimedOut,
  UnexpectedAnswer,
  type RemoteException
} from './errors.ts'

/** When no time is given, ms: as long as MassTransit waits. */
const TIMEOUT_MS = 30_000
/** Longest that anybody may wait, ms: what takes longer is a saga's. */
const LONGEST_MS = 3_600_000
/** Between two looks whether the request can be sent by now, ms. */
const LOOK_MS = 20
/** How long a stop waits until the queue of answers is gone, ms. */
const STOP_MS = 3000

/** How long is waited for an answer. */
export interface RequestOptions {
  /** How long to wait for the answer: `'2s'`, or milliseconds; `'30s'` when not given. At most 1 h. */
  readonly timeout?: string | number
}

export interface RequestClientOptions {
  transport: Transport
  log: Log
}

interface Waiting {
  contract: RequestContract
  settle(result: { body: unknown } | { error: Error }): void
}

/** Why a request was not sent that the transport did not accept. */
const NOT_ACCEPTED: Record<Exclude<PublishOutcome, 'accepted' | 'awaited'>, string> = {
  returned: 'no queue takes it',
  refused: 'its queue takes nothing now'
}

/**
 * Asks, and waits for answers: one queue of answers a process, made when something is asked for the
 * first time.
 */
export class RequestClient {
  readonly #options: RequestClientOptions
  readonly #reading = new Reading()
  readonly #waiting = new Map<string, Waiting>()
  readonly #contracts = new Set<Contract>([FAULT])
  #reader = new EnvelopeReader([FAULT])
  #writer: EnvelopeWriter | undefined
  #answers: Answers | undefined
  #stopped = false
  /** Answers that nobody waited for any more. */
  #late = 0

  constructor(options: RequestClientOptions) {
    this.#options = options
  }

  /**
   * Sends a request at once, outside transactions, and waits for its answer.
   * @returns the body of the answer
   * @throws RequestTimedOut; RequestFailed when its handler has failed; RequestNotSent when nobody
   * takes it; RequestAborted when the process stops; UnexpectedAnswer; InvalidDuration
   */
  async request<C extends RequestContract>(
    message: Message<C>,
    options: RequestOptions = {}
  ): Promise<BodyOf<C['response']>> {
    const { contract } = message
    if ('tx' in options) throw new AskedInTransaction(contract.name)
    mustBeAsked(message)
    const ms = timeoutOf(options)
    if (this.#stopped) throw new RequestAborted(`${contract.name}: the process has stopped`)
    const answers = this.#open(contract.response)
    const requestId = newId()
    const ended = new AbortController()
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise((resolve, reject) => {
        const settle: Waiting['settle'] = (result) => {
          if ('error' in result) reject(result.error)
          else resolve(result.body as BodyOf<C['response']>)
        }
        this.#waiting.set(requestId, { contract, settle })
        timer = setTimeout(() => settle({ error: this.#tooLate(contract, ms, answers) }), ms)
        const asks = { requestId, responseAddress: answers.address, waitsMs: ms }
        this.#send({ ...message, asks }, performance.now() + ms, answers, ended.signal).catch(
          (error: unknown) => settle({ error: error as Error })
        )
      })
    } finally {
      clearTimeout(timer)
      ended.abort()
      this.#waiting.delete(requestId)
    }
  }

  /** Rejects all that waits. */
  async stop(): Promise<void> {
    this.#stopped = true
    for (const { contract, settle } of this.#waiting.values())
      settle({ error: new RequestAborted(`${contract.name}: the process stops`) })
    for (const delivery of this.#reading.stop()) delivery.ack()
    await atMost(STOP_MS, this.#answers?.cancel())
  }

  /** Tried until it is sent, under one id: what arrives twice is handled once. */
  async #send(
    message: Message,
    until: number,
    answers: Answers,
    ended: AbortSignal
  ): Promise<void> {
    const { transport, log } = this.#options
    const { contract, messageId } = message
    for (; !ended.aborted; await pause(LOOK_MS, ended)) {
      // Answered to a queue that is not there, it would be answered to nobody.
      if (!answers.isOpen || !transport.canPublish) continue
      const left = until - performance.now()
      try {
        const outcome = await transport.publish({
          messageId,
          destination: destinationOf(contract),
          required: true,
          payload: this.#writer!.write(message),
          expiresMs: Math.max(1, Math.ceil(left))
        })
        if (outcome === 'accepted') return
        // It may be there in a moment: whoever starts first, asks.
        if (outcome === 'awaited') continue
        throw new RequestNotSent(
          `${contract.name} was not sent to ${contract.owner}: ${NOT_ACCEPTED[outcome]}`
        )
      } catch (error) {
        if (error instanceof RequestNotSent) throw error
        if (error instanceof PublishRefused)
          throw new RequestNotSent(
            `${contract.name} was not sent to ${contract.owner}: ${error.message}`
          )
        log.debug({ err: error, messageId }, 'Request without confirm; it is sent again')
      }
    }
  }

  #tooLate(contract: Contract, ms: number, { isOpen }: Answers): Error {
    const { transport } = this.#options
    const destination = destinationOf(contract)
    const awaited = transport.awaited?.before(destination) ?? []
    const problem =
      awaited.length > 0 ? transport.awaited!.reason(destination) : transport.problem()
    const why = problem ?? (isOpen ? undefined : 'the queue of answers is not open')
    return new RequestTimedOut(
      `${contract.name} was not answered by ${contract.owner} within ${ms / 1000} s${why === undefined ? '' : `: ${why}`}`
    )
  }

  #open(response: Contract): Answers {
    const { transport } = this.#options
    if (!transport.takeAnswers)
      throw new RequestNotSent('The transport has no queue of answers: expected takeAnswers()')
    if (!this.#contracts.has(response)) {
      this.#contracts.add(response)
      this.#reader = new EnvelopeReader([...this.#contracts])
    }
    this.#answers ??= transport.takeAnswers((delivery) =>
      this.#reading.take(delivery, (one) => this.#read(one))
    )
    this.#writer ??= new EnvelopeWriter(transport.address, this.#answers.source)
    return this.#answers
  }

  #read(delivery: Delivery): void {
    delivery.ack()
    const { log } = this.#options
    const { requestId, message, error } = this.#reader.readAnswer(
      delivery.payload,
      delivery.contentType
    )
    const waiting = requestId === undefined ? undefined : this.#waiting.get(requestId)
    if (!waiting) {
      this.#late++
      const about = { err: error, requestId, late: this.#late }
      return log.debug(about, 'An answer that nobody waits for was dropped')
    }
    const { contract, settle } = waiting
    if (message?.contract === contract.response) return settle({ body: message.body })
    if (message?.contract === FAULT) {
      const { exceptions } = message.body as { exceptions: RemoteException[] }
      return settle({ error: new RequestFailed(contract.name, exceptions) })
    }
    const got = message?.contract.name ?? error?.message ?? 'something else'
    settle({
      error: new UnexpectedAnswer(
        `${contract.name} was answered by what is no ${contract.response.name}: ${got}`
      )
    })
  }
}

function mustBeAsked({ contract, later }: Message): void {
  if (!contract.response)
    throw new RequestNotSent(
      `${contract.name} is no request: expected a contract declared by contracts(…).request()`
    )
  if (later) throw new RequestNotSent(`${contract.name} is asked at once, not later`)
}

function timeoutOf({ timeout = TIMEOUT_MS }: RequestOptions): number {
  const ms = milliseconds(timeout)
  if (ms < 1 || ms > LONGEST_MS)
    throw new InvalidDuration(`timeout is ${timeout}; expected 1ms to 1h: a saga waits longer`)
  return ms
}

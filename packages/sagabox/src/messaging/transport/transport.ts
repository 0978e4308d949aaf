import type { AwaitedEndpoints } from './awaited-endpoints.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'

/** What travels beside a payload. Received ones are a sender's word: anything may be in them. */
export type Headers = Readonly<Record<string, unknown>>

/** A message as a transport carries it: bytes and an address, nothing to interpret. */
export interface TransportMessage {
  messageId: string
  /** Exchange to publish to, or a queue, as `queueDestination` writes it. */
  destination: string
  /** Must reach a queue: otherwise it comes back as `returned`. */
  required: boolean
  payload: string | Buffer
  /** Null or absent: MassTransit's envelope. */
  contentType?: string | null
  headers?: Headers | null
  /**
   * A process that is gone may have handed it out before. Only a transport that keeps nothing
   * itself needs to be told.
   */
  again?: boolean
  /** After so many ms in a queue it is not handed out any more. */
  expiresMs?: number
}

/** No exchange of a message type or an endpoint begins so. */
const QUEUE = '/queue/'

/** A destination that is one queue. What goes to a queue that is not there is dropped. */
export function queueDestination(queue: string): string {
  return `${QUEUE}${queue}`
}

/** The queue that a destination is; undefined: it is an exchange. */
export function queueOf(destination: string): string | undefined {
  return destination.startsWith(QUEUE) ? destination.slice(QUEUE.length) : undefined
}

/**
 * - `accepted`: every queue that wants it has it safely: RabbitMQ has confirmed it, in memory every
 * endpoint has committed.
 * - `returned`: nobody takes it; it was not delivered.
 * - `awaited`: an endpoint that takes it has never been there; it was not sent (see `awaited`).
 * - `refused`: a queue behind the destination, such as a full one, takes nothing now; others may
 * have it.
 *
 * A promise rejected with PublishRefused is an answer, too. When it is rejected with anything else,
 * the message may have been delivered or not, and must be sent again.
 */
export type PublishOutcome = 'accepted' | 'returned' | 'refused' | 'awaited'

/**
 * The answer of a broker that does not take a message, in its words. Nothing is wrong with the way
 * to it.
 */
export class PublishRefused extends SagaboxError {
  override readonly name = 'PublishRefused'
  override readonly code = 'PUBLISH_REFUSED'
  /** What it is about: this message alone, or whatever goes to its destination. */
  readonly concerns: 'message' | 'destination'
  constructor(concerns: PublishRefused['concerns'], reason: string) {
    super(reason)
    this.concerns = concerns
  }
}

/**
 * The channel went because of another message, which is known: this one is to be sent again, and
 * under no suspicion.
 */
export class PublishInterrupted extends SagaboxError {
  override readonly name = 'PublishInterrupted'
  override readonly code = 'PUBLISH_INTERRUPTED'
}

/**
 * One message handed to an endpoint. Exactly one of the two calls settles it; later calls do
 * nothing.
 */
export interface Delivery {
  readonly payload: Buffer | string
  readonly contentType: string | undefined
  readonly messageId: string | undefined
  readonly headers: Headers
  /**
   * How often it was handed out before without being acknowledged, as far as the transport knows.
   */
  readonly redeliveries: number
  /** The effects are committed: forget the message. */
  ack(): void
  /** Not handled: hand it out again, to any consumer of the queue. */
  requeue(): void
}

/** Deliveries of one endpoint's queue. */
export interface Subscription {
  /** Stops deliveries; those already handed out may still be settled. */
  cancel(): Promise<void>
}

/** The queue in which a process takes answers to what it asks. It is gone with the process. */
export interface Answers {
  /** Name of the queue: whoever asks sends from there. */
  readonly source: string
  /** MassTransit's address of it. */
  readonly address: string
  /** Whether answers arrive now: it is declared, and consumed. */
  readonly isOpen: boolean
  cancel(): Promise<void>
}

/** How messages travel. Both implementations pass test/suites/conformance.ts. */
export interface Transport {
  /** Bus address for envelopes, with a trailing slash. */
  readonly address: string
  /**
   * Begins to connect, and keeps trying for as long as it takes: never throws because the broker is
   * away.
   * @param flowing called whenever publishing has become possible
   */
  start(flowing: () => void): void
  /** False while a publish could only fail or wait. */
  readonly canPublish: boolean
  /**
   * What it has accepted it keeps by itself. Absent: it accepts a message only when those who take
   * it have committed it.
   */
  readonly keeps?: true
  /** Whether the topology has such an exchange: what goes elsewhere reaches nobody. */
  knows(destination: string): boolean
  publish(message: TransportMessage): Promise<PublishOutcome>
  /** Endpoints declared elsewhere, until they have been seen. Absent: there are none. */
  readonly awaited?: AwaitedEndpoints
  /** Sentences about exchanges of others that cannot be used yet. Absent: there are none. */
  readonly unusable?: readonly string[]
  /**
   * Consumes the endpoint's queue; survives reconnects.
   * @param receive must not throw
   * @param most messages handed out and not settled; when not given, as many as the transport likes
   * @param mayLack the queue is somebody else's: until it is there, nothing comes, and that is no
   * problem
   */
  subscribe(
    endpoint: string,
    receive: (delivery: Delivery) => void,
    most?: number,
    mayLack?: boolean
  ): Subscription
  /**
   * Takes answers in a queue of this process alone, and again after every interruption. Absent:
   * nothing can be asked over this transport.
   * @param receive must not throw
   */
  takeAnswers?(receive: (delivery: Delivery) => void): Answers
  /**
   * Messages in an endpoint's queue, those that are handed out included where it knows them;
   * undefined when it cannot tell now. Absent: it never can.
   */
  depthOf?(endpoint: string): Promise<number | undefined>
  /** Undefined when all is well, otherwise why messages do not flow. */
  problem(): string | undefined
  stop(): Promise<void>
}

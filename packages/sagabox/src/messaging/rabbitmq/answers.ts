import type { Channel, Connection } from 'amqplib/callback_api.js'
import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import type { Log } from '../async/log.ts'
import type { Answers, Delivery } from '../transport/transport.ts'
import { RabbitSubscription } from './subscription.ts'

/** Answers handed out and not yet read. */
const PREFETCH = 200

export interface AnswerQueueOptions {
  /** Bus address. */
  address: string
  receive(delivery: Delivery): void
  connect(): Promise<Connection>
  log: Log
}

/**
 * The queue in which this process takes answers, named as MassTransit names such: exclusive, and
 * gone with its connection; each connection declares it anew under the same name. An exchange of the
 * name is there for .NET services, which declare it in this way before they answer.
 */
export function answerQueue({ address, receive, connect, log }: AnswerQueueOptions): Answers {
  const name = queueName()
  const subscription = new RabbitSubscription({
    endpoint: name,
    receive,
    most: PREFETCH,
    connect,
    declare: (channel) => declare(channel, name),
    log
  })
  subscription.start()
  return {
    source: name,
    address: `${address}${name}?temporary=true`,
    get isOpen() {
      return subscription.problem() === undefined
    },
    cancel: () => subscription.cancel()
  }
}

function queueName(): string {
  const machine = hostname()
    .replaceAll(/[^A-Za-z0-9]/g, '')
    .slice(0, 60)
  return `${machine}_node_bus_${randomBytes(16).toString('hex')}`
}

async function declare(channel: Channel, name: string): Promise<void> {
  const temporary = { durable: false, autoDelete: true }
  const done = (act: (callback: (error: Error | null) => void) => unknown) =>
    new Promise<void>((resolve, reject) => {
      act((error) => (error ? reject(error) : resolve()))
    })
  await done((callback) => channel.assertExchange(name, 'fanout', temporary, callback))
  const options = { ...temporary, exclusive: true, arguments: { 'x-queue-type': 'classic' } }
  await done((callback) => channel.assertQueue(name, options, callback))
  await done((callback) => channel.bindQueue(name, name, '', {}, callback))
}

import { connect, type ConfirmChannel, type ConsumeMessage } from 'amqplib'
import { randomUUID } from 'node:crypto'
import type { Scope } from '../support/program.ts'
import { until } from '../support/until.ts'

const EVENTS = [
  'OrderCreatedEvent',
  'OrderCompletedEvent',
  'OrderFailedEvent',
  'StockReservedEvent',
  'StockNotReservedEvent',
  'StockReleasedEvent',
  'PaymentCompletedEvent',
  'PaymentFailedEvent',
  'PaymentRefundedEvent'
]
const CONTENT_TYPE = 'application/vnd.masstransit+json'

export interface Seen {
  /** Such as `StockReservedEvent`, or `Fault<StockReservedEvent>`. */
  type: string
  envelope: Record<string, unknown> & { messageId: string; message: Record<string, unknown> }
  received: ConsumeMessage
}

/** A third party on the broker: hears all events and their faults, and sends what it is told. */
export class Wire {
  readonly seen: Seen[] = []
  readonly channel: ConfirmChannel

  private constructor(channel: ConfirmChannel) {
    this.channel = channel
  }

  static async open(scope: Scope, url: string): Promise<Wire> {
    const connection = await connect(url)
    connection.on('error', () => {})
    scope.teardown(() => connection.close().catch(() => {}))
    const channel = await connection.createConfirmChannel()
    const wire = new Wire(channel)
    const { queue } = await channel.assertQueue('', { exclusive: true })
    for (const event of EVENTS)
      for (const exchange of [`Contracts:${event}`, faultExchange(event)]) {
        await channel.assertExchange(exchange, 'fanout', { durable: true })
        await channel.bindQueue(queue, exchange, '')
      }
    await channel.consume(queue, (received) => received && wire.#keep(received), { noAck: true })
    return wire
  }

  /** Hears what is sent to endpoints, too. They must be there. */
  async listenTo(endpoints: readonly string[]): Promise<void> {
    const { queue } = await this.channel.assertQueue('', { exclusive: true })
    for (const endpoint of endpoints) await this.channel.bindQueue(queue, endpoint, '')
    await this.channel.consume(queue, (received) => received && this.#keep(received), {
      noAck: true
    })
  }

  of(type: string, orderId: string): Seen[] {
    return this.seen.filter((seen) => seen.type === type && orderOf(seen) === orderId)
  }

  all(orderId: string): Seen[] {
    return this.seen.filter((seen) => orderOf(seen) === orderId)
  }

  /** @throws Error when somebody published a fault for one of its messages */
  throwFaultOf(orderId: string): void {
    const fault = this.all(orderId).find(({ type }) => type.startsWith('Fault<'))
    if (!fault) return
    const [exception] = fault.envelope.message['exceptions'] as Record<string, string>[]
    throw new Error(`${fault.type}: ${exception?.['exceptionType']}: ${exception?.['message']}`)
  }

  arrived(type: string, orderId: string): Promise<Seen> {
    return until(
      `${type} of ${orderId} is on the wire`,
      async () => this.of(type, orderId)[0] ?? false,
      {
        tell: () =>
          this.all(orderId)
            .map((seen) => seen.type)
            .join(', ')
      }
    )
  }

  /** Sends what was seen once more, byte for byte. */
  async repeat({ received }: Seen): Promise<void> {
    const { exchange } = received.fields
    const { contentType, headers, messageId } = received.properties
    this.channel.publish(exchange, '', received.content, {
      contentType,
      headers,
      messageId,
      persistent: true
    })
    await this.channel.waitForConfirms()
  }

  /** As MassTransit publishes it: every property is written, `null` where there is no value. */
  async send(exchange: string, type: string, message: object): Promise<string> {
    const messageId = randomUUID()
    const envelope = {
      messageId,
      requestId: null,
      correlationId: null,
      conversationId: randomUUID(),
      initiatorId: null,
      sourceAddress: 'rabbitmq://localhost/third_party',
      destinationAddress: `rabbitmq://localhost/${exchange}`,
      responseAddress: null,
      faultAddress: null,
      messageType: [`urn:message:Contracts:${type}`],
      message,
      expirationTime: null,
      sentTime: new Date().toISOString(),
      headers: {},
      host: null
    }
    await this.sendText(exchange, JSON.stringify(envelope))
    return messageId
  }

  async sendText(exchange: string, text: string): Promise<void> {
    this.channel.publish(exchange, '', Buffer.from(text), {
      contentType: CONTENT_TYPE,
      persistent: true
    })
    await this.channel.waitForConfirms()
  }

  #keep(received: ConsumeMessage): void {
    let envelope: Seen['envelope'] & { messageType: string[] }
    try {
      envelope = JSON.parse(received.content.toString())
    } catch {
      return // broken on purpose
    }
    const [, type = '?'] = /([^:]+)$/.exec(envelope.messageType[0]!.replaceAll(']', '')) ?? []
    const isFault = envelope.messageType[0]!.includes('Fault[')
    this.seen.push({ type: isFault ? `Fault<${type}>` : type, envelope, received })
  }
}

function faultExchange(event: string): string {
  return `MassTransit:Fault--Contracts:${event}--`
}

function orderOf({ envelope: { message } }: Seen): unknown {
  const body = (message['faultId'] ? message['message'] : message) as { orderId?: string }
  return body.orderId?.toLowerCase()
}

/** The trace that a message belongs to, by the header of each side. */
export function tracesOf({ received, envelope }: Seen) {
  const headers = { ...(envelope['headers'] as object), ...received.properties.headers }
  const idOf = (name: string) =>
    /^00-([0-9a-f]{32})-/.exec(String((headers as Record<string, unknown>)[name]))?.[1]
  return { w3c: idOf('traceparent'), massTransit: idOf('MT-Activity-Id') }
}

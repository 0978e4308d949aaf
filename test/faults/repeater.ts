import { connect, type Channel, type ChannelModel } from 'amqplib'
import type { Scope } from '../support/program.ts'
import { until } from '../support/until.ts'

const ENDPOINTS = ['order', 'stock', 'payment']
/** How much later a late copy comes, ms. */
const LATE_MS = 700

/**
 * Brings every message of a virtual host to its endpoint several times: at once and later, to
 * whoever consumes it.
 */
export class Repeater {
  /** Copies sent. */
  sent = 0
  readonly #connection: ChannelModel
  readonly #channel: Channel
  readonly #consumers: string[] = []
  readonly #late = new Set<NodeJS.Timeout>()

  private constructor(connection: ChannelModel, channel: Channel) {
    this.#connection = connection
    this.#channel = channel
  }

  static async start(scope: Scope, brokerUrl: string): Promise<Repeater> {
    const connection = await connect(brokerUrl)
    connection.on('error', () => {})
    const channel = await connection.createChannel()
    const repeater = new Repeater(connection, channel)
    for (const endpoint of ENDPOINTS) {
      const { queue } = await channel.assertQueue('', { exclusive: true })
      await channel.bindQueue(queue, endpoint, '')
      const { consumerTag } = await channel.consume(
        queue,
        (message) => {
          if (!message) return
          const {
            content,
            properties: { headers, contentType, messageId }
          } = message
          // To the queue and not to its exchange: this queue must not get it again.
          const repeat = () => {
            repeater.sent++
            channel.sendToQueue(endpoint, content, {
              headers,
              contentType,
              messageId,
              persistent: true
            })
          }
          repeat()
          const timer = setTimeout(() => {
            repeater.#late.delete(timer)
            repeat()
          }, LATE_MS)
          repeater.#late.add(timer)
        },
        { noAck: true }
      )
      repeater.#consumers.push(consumerTag)
    }
    scope.teardown(async () => {
      for (const timer of repeater.#late) clearTimeout(timer)
      // After stop() it is closed already.
      await connection.close().catch(() => {})
    })
    return repeater
  }

  /** Repeats nothing new; resolves when every copy has been sent. */
  async stop(): Promise<void> {
    for (const consumerTag of this.#consumers) await this.#channel.cancel(consumerTag)
    await until('every copy is sent', async () => this.#late.size === 0)
    await this.#channel.close()
    await this.#connection.close()
  }
}

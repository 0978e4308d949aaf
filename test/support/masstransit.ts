import { connect, type ConfirmChannel } from 'amqplib'
import type { Test } from 'tap'

/** A channel of a program that is not ours. */
export async function foreignChannel(t: Test, url: string): Promise<ConfirmChannel> {
  const connection = await connect(url)
  connection.on('error', () => {})
  t.teardown(() => connection.close().catch(() => {}))
  const channel = await connection.createConfirmChannel()
  channel.on('error', () => {})
  return channel
}

/**
 * Declares an endpoint as MassTransit does: exchanges, their bindings, the queue, and its binding
 * last.
 */
export async function declareEndpoint(
  channel: ConfirmChannel,
  endpoint: string,
  queueArguments: object,
  exchanges: readonly string[] = []
): Promise<void> {
  for (const exchange of [endpoint, ...exchanges])
    await channel.assertExchange(exchange, 'fanout', { durable: true })
  for (const exchange of exchanges) await channel.bindExchange(endpoint, exchange, '')
  await channel.assertQueue(endpoint, { durable: true, arguments: queueArguments })
  await channel.bindQueue(endpoint, endpoint, '')
}

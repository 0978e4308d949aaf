import type { Channel } from 'amqplib/callback_api.js'
import t from 'tap'
import { Acknowledgements } from '../../src/messaging/rabbitmq/acknowledgements.ts'

/** A channel that keeps the broker's books: which tags it takes for acknowledged. */
function books(handedOut: number) {
  const open = new Set(Array.from({ length: handedOut }, (_, index) => index + 1))
  const acked: number[] = []
  const settle = (tag: number, upTo: boolean) => {
    for (const one of open) {
      if (one !== tag && !(upTo && one < tag)) continue
      open.delete(one)
      acked.push(one)
    }
  }
  const channel = {
    ack: ({ fields }: { fields: { deliveryTag: number } }, upTo = false) =>
      settle(fields.deliveryTag, upTo),
    nack: ({ fields }: { fields: { deliveryTag: number } }) => void open.delete(fields.deliveryTag)
  }
  const acks = new Acknowledgements(channel as unknown as Channel)
  for (const tag of open) acks.handedOut(tag)
  return { acks, acked: () => acked.toSorted((a, b) => a - b) }
}

const turn = () => new Promise(setImmediate)

t.test(
  'what is given back while the channel closes is not acknowledged with what came after it',
  async (t) => {
    const { acks, acked } = books(6)
    const settled = acks.settled()
    for (const tag of [2, 3, 4]) acks.ack(tag)
    for (const tag of [5, 6, 1]) acks.requeue(tag)
    await settled
    t.same(acked(), [2, 3, 4])
  }
)

t.test('in another turn, and between batches', async (t) => {
  const { acks, acked } = books(6)
  const settled = acks.settled()
  acks.requeue(3)
  for (const tag of [1, 2]) acks.ack(tag)
  await turn()
  for (const tag of [4, 5, 6]) acks.ack(tag)
  await settled
  t.same(acked(), [1, 2, 4, 5, 6])
})

t.test('while it runs, given back is told at once', async (t) => {
  const { acks, acked } = books(4)
  acks.requeue(2)
  for (const tag of [1, 3, 4]) acks.ack(tag)
  await turn()
  t.same(acked(), [1, 3, 4])
})

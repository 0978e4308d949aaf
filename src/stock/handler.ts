import type { Handler, Message } from 'sagabox'
import { OrderCreatedEvent } from '../contracts/order.ts'
import { ReleaseStock, StockReleasedEvent } from '../contracts/stock.ts'
import { decide } from './decide.ts'
import { lockProducts, moveStock } from './products.ts'
import { release, reservedLines } from './release.ts'
import { answerTo, decidedBefore, insertDecisions, orderKey } from './reserve.ts'

/**
 * Reserves and releases in one transaction: in two of their own each would wait for the products
 * that the other has locked, and for its commit. Products are locked in key order before anything
 * is written: in random order 600 reservations met 435 deadlocks, sorted none.
 */
export const stockHandler: Handler = {
  contracts: [OrderCreatedEvent, ReleaseStock],
  async handle(messages, tx) {
    const created = messages.filter(
      (received): received is Message<typeof OrderCreatedEvent> =>
        received.contract === OrderCreatedEvent
    )
    const releases = messages.filter(
      (received): received is Message<typeof ReleaseStock> => received.contract === ReleaseStock
    )
    const toRelease = [...new Set(releases.map(({ body }) => orderKey(body)))]

    // With nothing to release it is known at once what to lock, and one answer brings all; a second
    // lock later would be out of order.
    const ordered = created.flatMap(({ body }) => body.items.map(({ productId }) => productId))
    const [answers, reserved, locked] = await Promise.all([
      decidedBefore(tx, created),
      reservedLines(tx, toRelease),
      toRelease.length === 0 ? lockProducts(tx, ordered) : undefined
    ])
    for (const orderId of toRelease)
      if (answers.get(orderId)?.status !== 'Refused') answers.set(orderId, { status: 'Released' })
    const undecided = [
      ...new Map(
        created
          .filter(({ body }) => !answers.has(orderKey(body)))
          .map(({ body }) => [orderKey(body), body])
      ).values()
    ]

    const shelves =
      locked ??
      (await lockProducts(tx, [...ordered, ...reserved.map(({ productId }) => productId)]))
    const moves = new Map<string, number>()
    const move = (productId: string, quantity: number) =>
      moves.set(productId, (moves.get(productId) ?? 0) + quantity)
    for (const { productId, quantity } of await release(tx, toRelease, reserved)) {
      const shelf = shelves.get(productId)
      // Of a product that somebody deleted, or made anew since, no more comes back than is held.
      const back = Math.min(quantity, shelf?.reserved ?? 0)
      if (!shelf || back === 0) continue
      shelf.onHand += back
      shelf.reserved -= back
      move(productId, back)
    }
    const decisions = undecided.map((order) => ({
      orderId: orderKey(order),
      ...decide(order, shelves)
    }))
    for (const decision of decisions) {
      answers.set(decision.orderId, decision)
      if (decision.status === 'Reserved')
        for (const { productId, quantity } of decision.lines) move(productId, -quantity)
    }
    await Promise.all([insertDecisions(tx, decisions), moveStock(tx, moves, shelves)])
    return [
      ...releases.map((command) => StockReleasedEvent({ orderId: command.body.orderId }, command)),
      ...created.map((order) => answerTo(order, answers.get(orderKey(order.body))!))
    ]
  }
}

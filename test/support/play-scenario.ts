import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import { shopTopology } from '../../src/shop.ts'
import { advance } from '../../packages/sagabox/src/testing/advance.ts'
import { settled } from '../../packages/sagabox/src/testing/settled.ts'
import { GatedTransport } from './gated-transport.ts'
import type { Api } from './api.ts'
import type { ExpectedOrder, Scenario, ScenarioStep } from './scenario.ts'
import { orderSagas, startSystem, watched, type TestSystem, type TransportName } from './system.ts'
import { until } from './until.ts'

/**
 * Plays a scenario on the whole system and checks everything it expects. Returns what happened to
 * its sagas, as exported.
 */
export async function playScenario(
  t: Test,
  scenario: Scenario,
  transport: TransportName
): Promise<string> {
  let gate!: GatedTransport
  const running = await startSystem(t, transport, {
    wrap: (inner) => (gate = new GatedTransport(inner, shopTopology()))
  })
  const { api } = running
  for (const [productId, { onHand, unitPrice }] of Object.entries(scenario.products))
    await api.putProduct(productId, onHand, unitPrice)

  const orderIds = new Map<string, string>()
  for (const step of scenario.steps) await play(step, scenario, orderIds, gate, running)
  for (const orderId of orderIds.values()) await api.settled(orderId)
  await settled(watched(running.system, gate))

  for (const [name, orderId] of await namesOf(scenario, orderIds, api))
    await checkOrder(t, api, name, orderId, scenario.expect.orders[name]!)
  for (const [productId, expected] of Object.entries(scenario.expect.products))
    t.match(await api.get(`/products/${productId}`), expected, `stock of ${productId}`)
  return (await api.call('GET', '/sagas/export')).text
}

async function play(
  step: ScenarioStep,
  scenario: Scenario,
  orderIds: Map<string, string>,
  gate: GatedTransport,
  { api, system }: TestSystem
): Promise<void> {
  const idOf = (name: string) => orderIds.get(name)!
  if ('place' in step) {
    await Promise.all(
      step.place.map(async (name) =>
        orderIds.set(name, await api.placeOrder(scenario.orders[name]))
      )
    )
  } else if ('hold' in step) gate.hold(step.at, step.hold)
  else if ('release' in step) gate.release(step.at, step.release)
  else if ('deadline' in step) {
    await advance(orderSagas(system), '30s', [idOf(step.deadline)])
    await until('the deadline has fired', async () =>
      (await api.get(`/sagas/${idOf(step.deadline)}`)).history.some(
        ({ event }: { event: string }) => event === 'after deadline'
      )
    )
  } else if ('state' in step) {
    await until(
      `order ${step.await} is in ${step.state}`,
      async () => (await api.get(`/sagas/${idOf(step.await)}`)).state === step.state
    )
  } else if ('deferred' in step) {
    await until(`order ${step.await} keeps ${step.deferred} for later`, async () =>
      (await api.get(`/sagas/${idOf(step.await)}`)).history.some(
        ({ event, note }: { event: string; note: string | null }) =>
          event === step.deferred && note === 'deferred'
      )
    )
  } else if ('payment' in step || 'reservation' in step) {
    const [what, expected] =
      'payment' in step ? ['payments', step.payment] : ['reservations', step.reservation]
    await until(`${what} of ${step.await} is ${expected}`, async () => {
      const { status, body } = await api.call('GET', `/${what}/${idOf(step.await)}`)
      return status === 200 && body.status === expected
    })
  } else if ('cancel' in step) {
    const answers = await Promise.all(
      Array.from({ length: step.times ?? 1 }, () =>
        api.call('POST', `/orders/${idOf(step.cancel)}/cancel`)
      )
    )
    for (const { status, body } of answers)
      if (status !== step.status)
        throw new Error(
          `Cancelling ${step.cancel} answered ${status}, not ${step.status}: ${JSON.stringify(body)}`
        )
  } else if ('send' in step) {
    await until('messages can be sent', async () => gate.canPublish)
    const messageId = randomUUID()
    const payload = JSON.stringify({
      messageId,
      messageType: [`urn:message:Contracts:${step.send}`],
      message: { orderId: idOf(step.order), ...step.body }
    })
    await gate.send({ messageId, destination: step.to, required: true, payload })
  } else {
    await settled(watched(system, gate))
    const sent = [...gate.published]
    for (let time = 0; time < step.times; time++) {
      for (const message of sent) {
        const messageId = step.ids === 'same' ? message.messageId : randomUUID()
        await gate.send({
          ...message,
          messageId,
          payload: JSON.stringify({ ...JSON.parse(message.payload.toString()), messageId })
        })
      }
    }
  }
}

async function checkOrder(
  t: Test,
  api: Api,
  name: string,
  orderId: string,
  expected: ExpectedOrder
): Promise<void> {
  const {
    status,
    failureReason = null,
    history,
    thenOnlyIgnored = false,
    reservation,
    payment
  } = expected
  t.match(await api.get(`/orders/${orderId}`), { status, failureReason }, `order ${name}`)
  const saga = await api.get(`/sagas/${orderId}`)
  const steps = (
    saga.history as { event: string; from: string | null; to: string; sent: { type: string }[] }[]
  ).map(({ event, from, to, sent }) => ({ event, from, to, sent: sent.map(({ type }) => type) }))
  t.same(
    steps.slice(0, history.length).map(({ event, to, sent }) => ({ event, to, sent })),
    history.map(({ event, to, sent = [] }) => ({ event, to, sent })),
    `saga of ${name}`
  )
  const more = steps.slice(history.length)
  if (thenOnlyIgnored)
    t.ok(
      more.every(({ from, to, sent }) => from === to && sent.length === 0),
      `what came later changed nothing: ${JSON.stringify(more)}`
    )
  else t.same(more, [], `nothing more happened to ${name}`)
  t.match(
    await api.get(`/sagas/${orderId}/replay`),
    { consistent: true, firstDifference: null },
    `history of ${name} replays`
  )
  t.match(
    await api.get(`/reservations/${orderId}`),
    { status: reservation },
    `reservation of ${name}`
  )
  const { status: found, body } = await api.call('GET', `/payments/${orderId}`)
  if (payment) t.match(body, payment, `payment of ${name}`)
  else t.equal(found, 404, `${name} has no payment`)
}

/** Order names with their ids; names of a race go by outcome. */
async function namesOf(
  { expect }: Scenario,
  orderIds: Map<string, string>,
  api: Api
): Promise<[string, string][]> {
  if (!expect.race) return [...orderIds]
  const byStatus = new Map<string, string>()
  for (const orderId of orderIds.values())
    byStatus.set((await api.get(`/orders/${orderId}`)).status, orderId)
  return Object.entries(expect.orders).map(([name, { status }]) => [name, byStatus.get(status)!])
}

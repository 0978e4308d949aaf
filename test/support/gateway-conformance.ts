import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { ChargeResult, GatewayRequest, PaymentGateway } from '../../src/payment/gateway.ts'
import type { Balance } from './stripe-stand-in.ts'

/** A gateway, and which payment method does what. */
export interface GatewayWorld {
  gateway: PaymentGateway
  methods: Record<
    | 'pays'
    | 'isDeclined'
    | 'lacksFunds'
    | 'losesItsAnswer'
    | 'failsTwice'
    | 'takesSeconds'
    | 'refusesItsRefund',
    string
  >
  /** What the gateway's own books say of a key. Undefined: it keeps none. */
  balance(key: string): Balance | undefined
}

/** What every gateway does. */
export function gatewayConformance(t: Test, open: (t: Test) => Promise<GatewayWorld>): void {
  t.setTimeout(120_000)
  const signal = () => AbortSignal.timeout(60_000)
  const never = () => {}
  const request = (method: string): GatewayRequest => ({
    key: randomUUID(),
    amount: 500,
    currency: 'EUR',
    method,
    ageMs: 0
  })

  t.test('a charge, asked for again, is the same charge', async (t) => {
    const { gateway, methods, balance } = await open(t)
    const order = request(methods.pays)
    const first = await gateway.charge(order, signal(), never)
    t.match(first, { outcome: 'charged', reference: /./ })
    t.same(await gateway.charge({ ...order, ageMs: 100 }, signal(), never), first)
    t.same(balance(order.key) ?? { charges: 1, refunds: 0, net: 500 }, {
      charges: 1,
      refunds: 0,
      net: 500
    })
  })

  t.test('a decline stays one, with its reason', async (t) => {
    const { gateway, methods, balance } = await open(t)
    for (const [method, reason] of [
      [methods.isDeclined, 'CardDeclined'],
      [methods.lacksFunds, 'InsufficientFunds']
    ] as const) {
      const order = request(method)
      const declined: ChargeResult = { outcome: 'declined', reason }
      t.same(await gateway.charge(order, signal(), never), declined)
      t.same(await gateway.charge(order, signal(), never), declined)
      t.same(await gateway.refund(order, signal()), { amount: 0 })
      t.notOk(balance(order.key)?.charges)
    }
  })

  t.test('a lost answer comes when asked again', async (t) => {
    const { gateway, methods, balance } = await open(t)
    const order = request(methods.losesItsAnswer)
    await t.rejects(gateway.charge(order, signal(), never))
    t.match(await gateway.charge(order, signal(), never), { outcome: 'charged' })
    t.equal(balance(order.key)?.charges ?? 1, 1)
  })

  t.test('a charge whose answer nobody heard is given back', async (t) => {
    const { gateway, methods, balance } = await open(t)
    const order = request(methods.losesItsAnswer)
    await t.rejects(gateway.charge(order, signal(), never))
    t.same(await gateway.refund(order, signal()), { amount: 500 })
    t.same(balance(order.key) ?? { charges: 1, refunds: 1, net: 0 }, {
      charges: 1,
      refunds: 1,
      net: 0
    })
  })

  t.test('what fails twice works then', async (t) => {
    const { gateway, methods } = await open(t)
    const order = request(methods.failsTwice)
    await t.rejects(gateway.charge(order, signal(), never))
    await t.rejects(gateway.charge(order, signal(), never))
    t.match(await gateway.charge(order, signal(), never), { outcome: 'charged' })
  })

  t.test('a refund, asked for again, gives nothing more back', async (t) => {
    const { gateway, methods, balance } = await open(t)
    const order = request(methods.pays)
    const charged = await gateway.charge(order, signal(), never)
    const reference = charged.outcome === 'charged' ? charged.reference : undefined
    for (const asked of [{ ...order, reference }, { ...order, reference }, order])
      t.same(await gateway.refund(asked, signal()), { amount: 500 })
    t.same(balance(order.key) ?? { charges: 1, refunds: 1, net: 0 }, {
      charges: 1,
      refunds: 1,
      net: 0
    })
  })

  t.test(
    'a refund that is refused stays so, with its reason and the gateway’s words',
    async (t) => {
      const { gateway, methods, balance } = await open(t)
      const order = request(methods.refusesItsRefund)
      const charged = await gateway.charge(order, signal(), never)
      const reference = charged.outcome === 'charged' ? charged.reference : undefined
      for (const asked of [{ ...order, reference }, { ...order, reference }, order])
        t.match(await gateway.refund(asked, signal()), {
          refused: 'ChargeDisputed',
          detail: /charge/i
        })
      t.same(balance(order.key) ?? { charges: 1, refunds: 0, net: 500 }, {
        charges: 1,
        refunds: 0,
        net: 500
      })
    }
  )

  t.test('after a refund of nothing, nothing is charged', async (t) => {
    const { gateway, methods, balance } = await open(t)
    const order = request(methods.pays)
    t.same(await gateway.refund(order, signal()), { amount: 0 })
    t.same(await gateway.refund(order, signal()), { amount: 0 })
    t.same(await gateway.charge(order, signal(), never), {
      outcome: 'declined',
      reason: 'Cancelled'
    })
    t.same(await gateway.refund(order, signal()), { amount: 0 })
    t.notOk(balance(order.key)?.charges)
  })

  t.test('a call ends with its signal', async (t) => {
    const { gateway, methods } = await open(t)
    const giveUp = new AbortController()
    const asking = gateway.charge(request(methods.takesSeconds), giveUp.signal, never)
    giveUp.abort(new Error('no time left'))
    await t.rejects(asking)
    const late = AbortSignal.abort(new Error('no time left'))
    await t.rejects(gateway.charge(request(methods.pays), late, never))
    await t.rejects(gateway.refund(request(methods.pays), late))
  })

  t.test(
    'charges and refunds of one key at the same time leave it paid once or not at all',
    async (t) => {
      const { gateway, methods, balance } = await open(t)
      for (let round = 0; round < 10; round++) {
        const order = request(methods.pays)
        const calls = Array.from({ length: 6 }, (_, index) =>
          index === 3 ? gateway.refund(order, signal()) : gateway.charge(order, signal(), never)
        )
        await Promise.allSettled(calls)
        const first = await gateway.refund(order, signal())
        const amount = 'amount' in first ? first.amount : undefined
        t.match(await gateway.refund(order, signal()), { amount })
        const { charges, net } = balance(order.key) ?? { charges: 1, net: 0 }
        t.ok(charges <= 1, 'one charge at most')
        t.equal(net, 0, 'nothing is kept')
      }
    }
  )
}

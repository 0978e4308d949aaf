import t from 'tap'
import type { ChargeResult } from '../../src/payment/gateway.ts'
import { SimulatedGateway } from '../../src/payment/simulated-gateway.ts'
import { gatewayConformance } from '../support/gateway-conformance.ts'

gatewayConformance(t, async () => ({
  gateway: new SimulatedGateway(),
  methods: {
    pays: 'pm_card_visa',
    isDeclined: 'pm_card_chargeDeclined',
    lacksFunds: 'pm_card_chargeDeclinedInsufficientFunds',
    losesItsAnswer: 'pm_sim_lost_response',
    failsTwice: 'pm_sim_fails_twice',
    takesSeconds: 'pm_sim_slow',
    refusesItsRefund: 'pm_sim_refund_refused'
  },
  balance: () => undefined
}))

t.test('pm_sim_answers_twice gives its answer once more', async (t) => {
  let second!: (answer: ChargeResult) => void
  const again = new Promise<ChargeResult>((resolve) => (second = resolve))
  const first = await new SimulatedGateway().charge(
    { key: 'order', amount: 500, currency: 'EUR', method: 'pm_sim_answers_twice', ageMs: 0 },
    AbortSignal.timeout(60_000),
    second
  )
  // The gateway's timer keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  t.same(await again, first)
  clearInterval(alive)
})

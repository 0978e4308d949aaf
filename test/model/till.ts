import { SimulatedGateway } from '../../src/payment/simulated-gateway.ts'

/** What the simulated gateways of this process hold, by order: seen from the gateway's side of the wire. */
export const till = new Map<string, number>()

const { charge, refund } = SimulatedGateway.prototype

SimulatedGateway.prototype.charge = async function (request, signal, again) {
  const result = await charge.call(this, request, signal, again)
  if (result.outcome === 'charged') till.set(request.key, request.amount)
  return result
}

SimulatedGateway.prototype.refund = async function (request, signal) {
  const result = await refund.call(this, request, signal)
  if (result.amount > 0) till.set(request.key, 0)
  return result
}

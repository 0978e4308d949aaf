import { type ServiceDefinition, systemTopology, type Topology } from 'sagabox'
import type { PaymentGatewayName } from './contracts/types.ts'
import { orderService } from './order/service.ts'
import { paymentService } from './payment/service.ts'
import type { StripeSettings } from './payment/stripe/gateway.ts'
import { stockService } from './stock/service.ts'

export const SERVICE_NAMES = ['order', 'stock', 'payment'] as const
export type ServiceName = (typeof SERVICE_NAMES)[number]

/** What the services of the shop are told about how to work. */
export interface ShopSettings {
  /** How long an order may stay `Suspend`. */
  deadlineSeconds: number
  /** Who moves the money, and so which payment methods an order may name. */
  paymentGateway: PaymentGatewayName
  /** Queues of dead letters of services that are not ours: the order service collects them. */
  lettersOf?: readonly string[]
  /** Where the payment service finds Stripe, when that is the gateway. */
  stripe?: StripeSettings
}

/** The three services; a process runs all of them, or some. */
export function shop(settings: ShopSettings): Record<ServiceName, ServiceDefinition> {
  return { order: orderService(settings), stock: stockService, payment: paymentService(settings) }
}

export type TopologyScope = 'own' | 'all' | 'none'

/**
 * What these services exchange with each other and with the rest of the shop.
 * @param scope `own`: the other services' endpoints are theirs to declare; `all`: everything is
 * declared ahead; `none`: what `own` means, declared by somebody else
 */
export function shopTopology(
  names: readonly ServiceName[] = SERVICE_NAMES,
  scope: TopologyScope = 'own'
): Topology {
  const services = shop({ deadlineSeconds: 30, paymentGateway: 'simulated' })
  const all = Object.values(services)
  return systemTopology(scope === 'all' ? all : names.map((name) => services[name]), all)
}

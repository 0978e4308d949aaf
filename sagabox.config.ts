// What `sagabox` commands look at here: the order, stock and payment services.
import { shop } from './src/shop.ts'

export const services = Object.values(shop({ deadlineSeconds: 30, paymentGateway: 'simulated' }))
export { roles } from './src/roles.ts'

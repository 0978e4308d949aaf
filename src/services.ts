import { shop } from './shop.ts'

/** What `sagabox` commands look at here: `sagabox migrate --app dist/services.js` in the image. */
export const services = Object.values(shop({ deadlineSeconds: 30, paymentGateway: 'simulated' }))

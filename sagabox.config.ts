// What `sagabox` commands look at here: the order, stock and payment services.
export { services } from './src/services.ts'
export { roles } from './src/roles.ts'

// What `sagabox` commands look at: `npx sagabox --help` lists them.
export { services } from './src/services.ts'

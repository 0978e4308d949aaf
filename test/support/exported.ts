// What users export without naming its type: each must be writable in declarations, by the names
// that the library exports. test/slow/package.test.ts compiles it against the packed library.
import {
  contracts,
  defineSaga,
  defineService,
  foreign,
  handle,
  ignore,
  sagaActions,
  send,
  startSagabox,
  systemTopology,
  Type
} from 'sagabox'
import { IdempotencyHeaders, Page, PageQuery, toPage } from 'sagabox/fastify'
import { describe, tell } from 'sagabox/testing'

export const shop = contracts('shop', { correlateBy: 'id' })
export const Opened = shop.event('Opened', { id: Type.String() })
export const Close = shop.command('Close', { id: Type.String(), why: Type.String() })
export const Hours = shop.response('Hours', { hours: Type.Integer() })
export const GetHours = shop.request('GetHours', {}, Hours)
export const theirs = foreign('Theirs', {
  exchange: 'theirs',
  type: 'fanout',
  fields: { id: Type.String() }
})
export const close = Close.with(({ id }: { id: string }) => ({ why: id }))
export const later = () => Opened({ id: 'a' }).after('1s')
export const closing = handle(Close, ({ id }) => Opened({ id }))
export const sending = send(Close, ({ id }: { id: string }) => ({ id, why: '' }))
export const actions = sagaActions
export const ignored = ignore('nothing to do')
export const day = defineSaga('day', { startedBy: Opened, handles: [] }, () => ({
  initial: 'open',
  states: { open: { tags: 'end' } }
}))
export const story = tell(day)
export const told = () => story.when(Opened({ id: 'a' }))
export const description = describe(day)
export const service = defineService('shop', { handlers: [closing], sagas: [day] })
export const topology = systemTopology([service])
export const start = () => startSagabox({ services: [service] })
export const ended = async () => (await start()).ended(day, 'a')
export const running = async () => (await start()).service('shop')
export const hours = async () => (await start()).request(GetHours({}))
export const list = { query: Type.Object(PageQuery), page: Page(Type.Object({})), toPage }
export const headers = IdempotencyHeaders

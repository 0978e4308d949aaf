// What the types of contracts, handlers, sagas and services must refuse: each @ts-expect-error is an
// error when nothing is wrong. Those of steps: steps-types.test.ts.
import t from 'tap'
import Type from 'typebox'
import { handle, handleBatch, type Handling } from '../../src/messaging/endpoint/handler.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { foreign } from '../../src/messaging/message/foreign.ts'
import { event, message, type BodyOf } from '../../src/messaging/message/message.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { defineService } from '../../src/service/define.ts'
import type { Sagabox } from '../../src/service/start.ts'

const Id = Type.String()
const shop = contracts('shop', { correlateBy: 'id' })
const Opened = shop.event('Opened', { id: Id, hours: Type.Integer() })
const Closed = shop.event('Closed', { id: Id, note: Type.Optional(Id) })
const Close = shop.command('Close', { id: Id })
const Price = shop.response('Price', { amount: Type.Integer() })
const GetPrice = shop.request('GetPrice', { of: Id }, Price)
const Other = shop.response('Other', { amount: Id })

/** Never called: what is in here is compiled alone. */
const compiled = (_: () => unknown) => undefined

t.test('what is right compiles', async () => {
  compiled(() => Closed({ id: 'a' }))
  compiled(() => Closed({ id: 'a', note: 'b' }).after('1d', { token: 'c' }))
  compiled(() => handle(Close, ({ id }) => Closed({ id })))
  compiled(() => handle(Close, async ({ id }) => [Closed({ id }), Opened({ id, hours: 1 })]))
  compiled(() => handle(Close, async () => {}))
  compiled(async () => {
    const app = {} as Sagabox
    const { amount }: { amount: number } = await app.request(GetPrice({ of: 'a' }))
    return amount
  })
})

t.test('a body that is not its contract’s does not compile', async () => {
  // @ts-expect-error -- hours is missing
  compiled(() => Opened({ id: 'a' }))
  // @ts-expect-error -- hours is a number
  compiled(() => Opened({ id: 'a', hours: '8' }))
  // @ts-expect-error -- no such field
  compiled(() => Opened({ id: 'a', hours: 8, days: 5 }))
  // @ts-expect-error -- hours is missing
  compiled(() => message(Opened, { id: 'a' }))
  // @ts-expect-error -- a request has no later
  compiled(() => GetPrice({ of: 'a' }).after('1s'))
  // @ts-expect-error -- no such field
  compiled((): keyof BodyOf<typeof Opened> => 'days')
})

t.test(
  'a contract without its correlating field, or of another kind, does not compile',
  async () => {
    // @ts-expect-error -- id is missing
    compiled(() => shop.event('Lost', { hours: Type.Integer() }))
    // @ts-expect-error -- id is missing
    compiled(() => shop.command('Lose', {}))
    // @ts-expect-error -- correlateBy is missing
    compiled(() => contracts('shop', {}))
    // @ts-expect-error -- correlateBy names no field
    compiled(() => event('Lost', { owner: 'a', schema: Type.Object({}), correlateBy: 'id' }))
    // @ts-expect-error -- a command says by queue where it goes
    compiled(() => shop.command('Lose', { id: Id }, { optional: true }))
    // @ts-expect-error -- what answers is a contract
    compiled(() => shop.request('GetPrice', {}, 'Price'))
    // @ts-expect-error -- AMQP has no such type
    compiled(() => foreign('Theirs', { exchange: 'a', type: 'round', fields: {} }))
  }
)

t.test('a handler of another body, or with another answer, does not compile', async () => {
  // @ts-expect-error -- the body has no such field
  compiled(() => handle(Close, async ({ hours }) => Opened({ id: 'a', hours })))
  // @ts-expect-error -- a text is no message
  compiled(() => handle(Close, async () => 'closed'))
  // @ts-expect-error -- a contract is no message
  compiled(() => handle(Close, async () => Closed))
  // @ts-expect-error -- a body is no message
  compiled(() => handle(Close, async ({ id }) => ({ id })))
  // @ts-expect-error -- a batch returns a list
  compiled(() => handleBatch(Close, async ([first]) => Closed({ id: first!.body.id })))
  // @ts-expect-error -- its tx sends messages
  compiled(() => handle(Close, async (_, { tx }) => tx.send('closed')))
  // @ts-expect-error -- the message of another contract
  compiled((): Handling<typeof Close>['message'] => Opened({ id: 'a', hours: 1 }))
})

t.test('an answer has the type of its request', async () => {
  const app = {} as Sagabox
  // @ts-expect-error -- amount is a number
  compiled(async (): Promise<{ amount: string }> => app.request(GetPrice({ of: 'a' })))
  // @ts-expect-error -- a command is not asked
  compiled(() => app.request(Close({ id: 'a' })))
  // @ts-expect-error -- amount is a text
  compiled(() => Other({ amount: 1 }))
})

t.test('a saga of other events or another context does not compile', async () => {
  const options = { startedBy: Opened, handles: [Closed] } as const
  const states = { open: {}, shut: { tags: 'end' } } as const
  compiled(() => defineSaga('day', options, () => ({ initial: 'open', states })))
  compiled(() =>
    defineSaga('day', options, () => ({
      initial: 'open',
      // @ts-expect-error -- an event that is not in handles
      states: { open: { on: { Opened: 'shut' } } }
    }))
  )
  compiled(() =>
    defineSaga('day', options, ({ send }) => ({
      initial: 'open',
      // @ts-expect-error -- the context has no such field
      states: { open: { entry: send(Close, ({ name }) => ({ id: name })) } }
    }))
  )
  compiled(() =>
    defineSaga('day', options, ({ send }) => ({
      initial: 'open',
      // @ts-expect-error -- id is a text
      states: { open: { entry: send(Close, ({ hours }) => ({ id: hours })) } }
    }))
  )
  compiled(() =>
    defineSaga('day', options, ({ set }) => ({
      initial: 'open',
      // @ts-expect-error -- the context has no such field
      states: { open: { entry: set(() => ({ days: 1 })) } }
    }))
  )
  compiled(() =>
    defineSaga('day', options, () => ({
      initial: 'open',
      // @ts-expect-error -- an end is tagged as one
      states: { open: { tags: 'final' } }
    }))
  )
  // @ts-expect-error -- a saga needs what starts it
  compiled(() => defineSaga('day', { handles: [Closed] }, () => ({ initial: 'open', states })))
})

t.test('a service of other parts does not compile', async () => {
  // @ts-expect-error -- a contract is no handler
  compiled(() => defineService('shop', { handlers: [Close] }))
  // @ts-expect-error -- a handler is no saga
  compiled(() => defineService('shop', { sagas: [handle(Close, () => {})] }))
  // @ts-expect-error -- no such option
  compiled(() => defineService('shop', { consumers: [] }))
})

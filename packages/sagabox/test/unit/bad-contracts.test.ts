import t from 'tap'
import Type from 'typebox'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { command, event } from '../../src/messaging/message/message.ts'
import { handle } from '../../src/messaging/endpoint/handler.ts'
import { ignore } from '../../src/saga/define.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { defineService, systemTopology } from '../../src/service/define.ts'

const Id = Type.String({ format: 'uuid' })
const schema = Type.Object({ id: Id })
const { event: shopEvent } = contracts('shop', { correlateBy: 'id' })
const Started = shopEvent('Started', { id: Id })
const Done = shopEvent('Done', { id: Id })

t.test('a contract without an owner, or a field to correlate by', async (t) => {
  t.throws(() => command('Book', { owner: undefined as never, schema, correlateBy: 'id' }), {
    code: 'INVALID_CONTRACT',
    message:
      "Contract Book: it has no owner; expected the name of the service that takes it, as contracts('<service>', …) says it of all its contracts"
  })
  t.throws(() => contracts('', { correlateBy: 'id' }).event('Booked', { id: Id }), {
    message: /expected owner to be a name of letters/
  })
  t.throws(() => event('Booked', { owner: 'a', schema, correlateBy: 'key' as never }), {
    message: 'Contract Booked: correlateBy is key, which is none of its fields (id)'
  })
  const wrong = () => [
    // @ts-expect-error -- no owner
    command('Book', { schema, correlateBy: 'id' }),
    // @ts-expect-error -- no such field
    event('Booked', { owner: 'a', schema, correlateBy: 'key' }),
    // @ts-expect-error -- the field is missing
    shopEvent('Booked', { key: Id })
  ]
  t.type(wrong, 'function')
})

const machine = (name: string) => () =>
  ({
    initial: 'waiting',
    states: { waiting: { tags: 'end', on: { [name]: ignore('x') } } }
  }) as const

t.test('a saga that handles what starts it, or two events of one name', async (t) => {
  const handles = [Started]
  t.throws(() => defineSaga('s', { startedBy: Started, handles }, machine('Started')), {
    code: 'INVALID_SAGA',
    message:
      'Saga s: Started starts it and is among handles, where it would never arrive, since a second start changes nothing: leave it out of handles'
  })
  t.doesNotThrow(
    () =>
      defineSaga(
        's',
        { startedBy: Started, startsInTransaction: true, handles },
        machine('Started')
      ),
    'what a transaction starts is not started by the message'
  )
  const other = contracts('other', { correlateBy: 'id', namespace: 'Other' }).event('Done', {
    id: Id
  })
  t.throws(() => defineSaga('s', { startedBy: Started, handles: [Done, other] }, machine('Done')), {
    message:
      'Saga s: two of its events are called Done, and a state could not tell them apart: expected each name once in handles and asks'
  })
})

t.test('a handler of another service’s command', async (t) => {
  const Book = contracts('courier', { correlateBy: 'id' }).command('Book', { id: Id })
  t.throws(() => defineService('shop', { handlers: [handle(Book, () => [])] }), {
    code: 'INVALID_SERVICE',
    message:
      "Service shop: it takes Book, a command of courier: commands go to their owner alone, and none would arrive; handle it in courier, or declare it by contracts('shop', …)"
  })
  t.doesNotThrow(() => defineService('courier', { handlers: [handle(Book, () => [])] }))
})

t.test('two contracts of one name in a system', async (t) => {
  const same = contracts('stock', { correlateBy: 'id' }).event('Done', { id: Id })
  const services = [
    defineService('shop', { sends: [Done] }),
    defineService('stock', { handlers: [handle(same, () => [])] })
  ]
  t.throws(() => systemTopology(services), {
    code: 'INVALID_CONTRACT',
    message:
      'Two contracts of the system are urn:message:Contracts:Done, of shop and of stock, and differ in their owner; declare it once and import it where it is used, or give one of them another name or namespace'
  })
  t.throws(() => systemTopology(services.slice(0, 1), services), /urn:message:Contracts:Done/)
  t.doesNotThrow(() => systemTopology(services.slice(0, 1)))
})

// A letter whose body is mended, and what people note on letters of one cause.
import t from 'tap'
import { startSystem } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(180_000)

const LETTERS = '/ops/payment/dead-letters'

t.test('another body is sent in its place, once and under a new id', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { settings: { redeliverySeconds: [] } })
  await api.putProduct('keyboard', 10)
  const { database } = system.service('payment')
  await database.rows('alter table payments rename to gone')
  const orderId = await api.placeOrder({ paymentMethod: 'pm_card_visa' })
  const id = await until(
    'it is a letter',
    async () => (await api.get(LETTERS)).items[0]?.id as number | undefined
  )
  await database.rows('alter table gone rename to payments')
  const letter = await api.get(`${LETTERS}/${id}`)
  const body = JSON.parse(letter.payload).message

  const wrong: [object, string][] = [
    [{ ...body, total: 'x' }, 'body.total'],
    [{ ...body, orderId: '01a2216f-7b90-71ef-888d-e2e419f40805' }, 'body.orderId'],
    [{}, 'body.orderId']
  ]
  for (const [other, field] of wrong)
    t.match(
      await api.call('POST', `${LETTERS}/${id}/edit`, { body: other, why: 'x' }),
      { status: 422, body: { errors: [{ field }] } },
      field
    )
  t.match(await api.get(`${LETTERS}/${id}`), { status: 'waiting' }, 'nothing was done')
  t.match(await api.call('POST', `${LETTERS}/${id}/edit`, { body }), {
    status: 400,
    body: { errors: [{ field: 'why' }] }
  })
  t.match(await api.call('POST', `${LETTERS}/999/edit`, { body, why: 'x' }), { status: 404 })

  const mended = { ...body, paymentMethod: 'pm_card_chargeDeclined' }
  const done = await api.call('POST', `${LETTERS}/${id}/edit`, { body: mended, why: 'wrong card' })
  t.match(done, {
    status: 202,
    body: {
      id,
      difference: [
        { path: 'paymentMethod', before: 'pm_card_visa', after: 'pm_card_chargeDeclined' }
      ]
    }
  })
  t.not(done.body.messageId, letter.messageId)
  t.match(await api.settled(orderId), { context: { failureReason: 'CardDeclined' } })
  t.match(await api.get(`${LETTERS}/${id}`), { status: 'handled' })
  t.match(await api.call('POST', `${LETTERS}/${id}/edit`, { body: mended, why: 'x' }), {
    status: 409
  })
  t.match((await api.get('/ops/payment/audit')).items[0], {
    action: 'letter:edit',
    target: `dead letter ${id}`,
    reason: 'It has been handled since',
    outcome: 'refused'
  })
  t.match(
    await database.rows('select action, details from dead_letter_audit where dead_letter_id = $1', [
      id
    ]),
    [{ action: 'edit', details: { why: 'wrong card', messageId: done.body.messageId } }]
  )
})

t.test('a note on letters of one cause, resolved, and come back', async (t) => {
  const { api, system } = await startSystem(t, 'memory', { settings: { redeliverySeconds: [] } })
  await api.putProduct('keyboard', 10)
  const { database } = system.service('payment')
  await database.rows('alter table payments rename to gone')
  await api.placeOrder()
  const groups = async () => (await api.get(`${LETTERS}/groups`)).groups
  await until('it is a letter', async () => (await groups()).length === 1)
  const [{ id, note, cameBack }] = await groups()
  t.match({ id, note, cameBack }, { id: /^[0-9a-f]{16}$/, note: null, cameBack: false })

  const put = (group: string, body: object) =>
    api.call('PUT', `${LETTERS}/groups/${group}/note`, body)
  t.match(await put(id, { note: 'the table is gone' }), { status: 204 })
  t.match(await groups(), [{ note: { note: 'the table is gone', resolvedAt: null } }])
  t.match(await put(id, { note: 'mended', resolved: true }), { status: 204 })
  t.match(await groups(), [{ note: { note: 'mended', resolvedAt: String }, cameBack: false }])
  await api.placeOrder()
  await until('another came', async () => (await groups())[0].count === 2)
  t.match(await groups(), [{ id, cameBack: true }])
  t.match(await put('0123456789abcdef', { note: 'x' }), { status: 404 })
  t.match(await put('x', { note: 'x' }), { status: 400 })
  t.match(await put(id, { note: '' }), { status: 400, body: { errors: [{ field: 'note' }] } })
})

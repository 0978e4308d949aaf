// Lists for spreadsheets.
import t from 'tap'
import { csvOf } from '../../packages/sagabox/src/http/csv.ts'
import { startSystem } from '../support/system.ts'

t.test('cells: quoted where needed, and never a formula', async (t) => {
  t.equal(
    csvOf([
      { id: 1, text: '=cmd()', more: null },
      { id: -2, text: 'a "b", c\nd', list: [1, 2] },
      { id: 3, text: '@x', more: '+1', other: '-1\t', tab: '\t=1' }
    ]),
    [
      'id,text,more,list,other,tab',
      "1,'=cmd(),,,,",
      '-2,"a ""b"", c\nd",,"[1,2]",,',
      "3,'@x,'+1,,'-1\t,'\t=1",
      ''
    ].join('\r\n')
  )
  t.equal(csvOf([]), '')
})

t.test('lists as CSV for who asks for it, and pages go on', async (t) => {
  const { api } = await startSystem(t, 'memory')
  await api.putProduct('keyboard', 10)
  const ids = [await api.placeOrder(), await api.placeOrder()]
  for (const id of ids) await api.settled(id)
  const csv = (path: string, accept = 'text/csv') => api.call('GET', path, undefined, { accept })
  const first = await csv('/sagas?limit=1')
  t.match(first.headers.get('content-type'), /^text\/csv/)
  t.match(first.text, /^sagaId,status,state,version,.*\r\n.*,Completed,Completed,3,.*\r\n$/)
  const next = await csv(`/sagas?limit=1&cursor=${first.headers.get('x-next-cursor')!}`)
  t.ok(next.text.includes(ids[0]!))
  t.equal((await csv('/ops/stock/dead-letters')).text, '')
  t.equal((await csv('/ops/stock/audit')).status, 200)
  t.match(await csv('/sagas?limit=0'), { status: 400, body: { errors: [{ field: 'limit' }] } })
  for (const accept of ['*/*', 'application/json', 'text/csv, application/json'])
    t.match((await csv('/sagas', accept)).body, { items: [{}, {}] }, accept)
})

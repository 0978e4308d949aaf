// Headers of ours from a stranger: each is its own message's affair, or nothing.
import t from 'tap'
import {
  attemptsIn,
  redeliveriesIn,
  redeliveryHeaders,
  replayHeaders
} from '../../src/messaging/dead-letters/headers.ts'

t.test('a forged count gives no further tries, and an odd one is none', async (t) => {
  for (const forged of [-5, '-5', 'NaN', '1e999', {}, [], null, true])
    t.equal(redeliveriesIn({ 'MT-Redelivery-Count': forged }), 0, JSON.stringify(forged))
  const more = redeliveryHeaders({ 'MT-Redelivery-Count': '-100' }, [])
  t.equal(more['MT-Redelivery-Count'], 1)
})

t.test('forged attempts are few, and nothing but texts', async (t) => {
  const many = Array.from({ length: 500 }, () => ({ at: 'x', error: 'y', admin: true }))
  const found = attemptsIn({ 'sagabox-attempts': JSON.stringify(many.slice(0, 300)) })
  t.equal(found.length, 20)
  t.same(found[0], { at: 'x', error: 'y' })
  for (const forged of ['{', '{"length":9}', '[1,null,{}]', 7])
    t.same(attemptsIn({ 'sagabox-attempts': forged }), [])
})

t.test('what an operator sends back forgets the failures that a stranger wrote', async (t) => {
  const back = replayHeaders('7', {
    'sagabox-replayed': '1',
    'MT-Redelivery-Count': '9',
    'x-death': 'forged',
    mine: 'kept'
  })
  t.same(back, { mine: 'kept', 'sagabox-replayed': '7' })
})

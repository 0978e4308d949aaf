import t from 'tap'
import { contracts, defineSaga, ignore, send, Type } from '../../src/index.ts'
import { causedBy } from '../../src/messaging/message/message.ts'
import { tell } from '../../src/testing/story.ts'

const bell = contracts('bell', { correlateBy: 'bellId' })
const bellId = '01890000-0000-7000-8000-000000000001'
const Cast = bell.event('Cast', { bellId: Type.String({ format: 'uuid' }) })
const Ring = bell.command('Ring', { bellId: Type.String({ format: 'uuid' }) })
const ring = Ring({ bellId })

t.test('a message says when it is sent, and is otherwise the same', async (t) => {
  const at = new Date('2030-01-02T03:04:05.678Z')
  for (const [message, later] of [
    [ring.after('10s'), { ms: 10_000 }],
    [ring.after('1.5h'), { ms: 5_400_000 }],
    [ring.after(250, { token: 'evening ☾' }), { ms: 250, token: 'evening ☾' }],
    [ring.after(at), { at: '2030-01-02T03:04:05.678Z' }]
  ] as const) {
    t.same(message.later, later)
    t.equal(message.messageId, ring.messageId)
    t.equal(message.contract, Ring)
  }
  t.equal(ring.later, undefined)
  const cause = Cast({ bellId })
  t.match(causedBy(ring.after('1s'), cause), {
    conversationId: cause.messageId,
    later: { ms: 1000 }
  })
})

t.test('a time or a token that cannot be used is refused where it was written', async (t) => {
  for (const when of [
    'soon',
    '',
    '-1s',
    '1 d',
    -1,
    Number.NaN,
    Infinity,
    '40000d',
    new Date(Number.NaN)
  ])
    t.throws(() => ring.after(when), { code: 'INVALID_DURATION' }, String(when))
  t.throws(() => ring.after(new Date('2200-01-01')), { code: 'INVALID_DURATION' })
  t.doesNotThrow(() => ring.after(new Date(0)), 'past is at once')
  for (const token of ['', 'x'.repeat(201), 'a\0b', '\ud800', 7 as never])
    t.throws(() => ring.after('1s', { token }), { code: 'INVALID_TOKEN' }, JSON.stringify(token))
  t.doesNotThrow(() => ring.after('1s', { token: 'x'.repeat(200) }))
})

t.test('a saga sends later', async (t) => {
  const ringing = defineSaga('ringing', { startedBy: Cast, handles: [] }, (tools) => ({
    initial: 'hung',
    states: {
      hung: {
        tags: 'end',
        entry: [
          tools.send(Ring, (context) => context, { after: '1h' }),
          tools.send(Ring, (context) => context)
        ],
        on: { '*': ignore('it hangs') }
      }
    }
  }))
  const { when } = tell(ringing)
  when(Cast({ bellId })).then('hung', [ring.after('1h'), ring])
  t.throws(
    () => when(Cast({ bellId })).then('hung', [ring, ring]),
    /Got hung, sent Ring .* after 3600s, Ring/
  )
  t.throws(() => send(Ring, () => ({ bellId }), { after: 'soon' }), { code: 'INVALID_DURATION' })
})

t.test('a send without a body is refused where it is written', async (t) => {
  t.throws(() => send(Ring, undefined as never), {
    code: 'INVALID_SAGA',
    message: /sends Ring: the body is missing; expected a function/
  })
})

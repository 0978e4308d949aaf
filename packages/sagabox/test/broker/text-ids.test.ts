// Sagas whose instances are called by any text, from the first message to the export.
import { randomUUID } from 'node:crypto'
import {
  contracts,
  defineSaga,
  defineService,
  handle,
  idOfKey,
  startSagabox,
  Type,
  type Sagabox
} from 'sagabox'
import { readRecording, tell } from 'sagabox/testing'
import t, { type Test } from 'tap'
import {
  BookFetched,
  BookWanted,
  FetchBook,
  loan,
  services
} from '../../../../docs/examples/own-ids.ts'
import { runCommand } from '../../../../test/support/cli.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { rabbitmqForTests } from '../../../../test/support/rabbitmq.ts'
import { until } from '../../../../test/support/until.ts'

/** Whatever people call things, and some that are meant badly. */
const KEYS = [
  'L-2026/0001',
  '..',
  '.',
  'summary',
  'a b',
  'a+b&c=d?e#f%2F%',
  '%00',
  'Grüße 🚢',
  '{"a":1}',
  "x'); drop table saga; --",
  '01A204B8-B63E-7263-8CC6-45323F1F4DC', // one short of a UUID
  'z'.repeat(60)
]
/** Clients take these for steps in a path, and one is another route: the id leads there. */
const NOT_IN_PATHS = new Set(['..', '.', 'summary'])

// Another saga of the same service whose instances may be called the same.
const desk = contracts('lending', { correlateBy: 'ticket' })
const Asked = desk.event('Asked', { ticket: Type.String() })
const Answered = desk.event('Answered', { ticket: Type.String() })
const seen: { key: string; sagaId: string }[] = []
const question = defineSaga(
  'question',
  {
    startedBy: Asked,
    handles: [Answered],
    effects: [],
    async project(_tx, changes) {
      seen.push(...changes.map(({ key, sagaId }) => ({ key, sagaId })))
    }
  },
  () => ({
    initial: 'open',
    states: { open: { on: { Answered: 'closed' } }, closed: { tags: 'end', on: { '*': {} } } }
  })
)
const both = [
  defineService('lending', { sagas: [loan, question] }),
  defineService('shelf', {
    handlers: [handle(FetchBook, (book) => BookFetched({ loan: book.loan }))]
  })
]

async function open(t: Test, broker: boolean, some = services): Promise<Sagabox> {
  const app = await startSagabox({
    services: some,
    databaseUrl: await (await postgresForTests()).createDatabase(),
    ...(broker && { rabbitmqUrl: await (await rabbitmqForTests()).createVhost() }),
    signals: false
  })
  t.teardown(() => app.stop())
  return app
}

interface Answer {
  items: { key: string }[]
}

async function ask(app: Sagabox, path: string, init?: RequestInit) {
  const response = await fetch(`${app.url}/sagas/loan${path}`, init)
  return { status: response.status, body: (await response.json()) as Answer }
}

for (const broker of [false, true]) {
  t.test(
    `instances are called by any text, ${broker ? 'over RabbitMQ' : 'in memory'}`,
    async (t) => {
      const app = await open(t, broker)
      await app.publish(...KEYS.map((key) => BookWanted({ loan: key, title: 'Emma' })))
      for (const key of KEYS) {
        const ended = await app.ended(loan, key)
        t.match(ended, { key, sagaId: idOfKey(key), state: 'lent', context: { loan: key } })
        const name = NOT_IN_PATHS.has(key) ? idOfKey(key) : encodeURIComponent(key)
        t.match(
          await ask(app, `/${name}`),
          { status: 200, body: { key, sagaId: idOfKey(key) } },
          key
        )
        t.match(await ask(app, `/${name}/replay`), { body: { consistent: true } }, key)
        t.match(
          (await ask(app, `?key=${encodeURIComponent(key)}`)).body,
          { items: [{ key }], nextCursor: null },
          key
        )
      }
      const { body } = await ask(app, '')
      t.same(body.items.map(({ key }) => key).toSorted(), KEYS.toSorted())
      t.same((await ask(app, '?key=nobody')).body.items, [])
      t.same((await ask(app, '?key=..&state=fetching')).body.items, [])
      t.match(await ask(app, '/nobody'), { status: 404 })
      t.match(await ask(app, `/${'x'.repeat(256)}`), { status: 414 })
      for (const path of ['/%00', '/%ED%A0%BD', '?key=', '?key=%00', `?key=${'é'.repeat(128)}`])
        t.match(await ask(app, path), { status: 400 }, path)
      const lines = (await (await fetch(`${app.url}/sagas/loan/export`)).text())
        .trimEnd()
        .split('\n')
      t.same(lines.map((line) => readRecording(line).key ?? '').toSorted(), KEYS.toSorted())
    }
  )
}

t.test('the command line takes any text', async (t) => {
  const app = await open(t, false)
  const env = { SAGABOX_URL: app.url }
  const keys = ['L-2026/0001', '..']
  await app.publish(...keys.map((key) => BookWanted({ loan: key, title: 'Emma' })))
  for (const key of keys) {
    await app.ended(loan, key)
    const shown = await runCommand(['sagas', 'show', key], env)
    t.match(shown, { code: 0 }, shown.err)
    t.equal(shown.out.split('\n', 1)[0], `${key}  lent`)
    t.match(shown.out, new RegExp(`^ *saga id +${idOfKey(key)}$`, 'm'))
  }
  t.match(await runCommand(['sagas', 'replay', '..'], env), { code: 0, out: /replay as recorded/ })
  const { out } = await runCommand(['sagas', 'list'], env)
  t.match(out, /^\.\. +lent /m)
  t.match(out, /^L-2026\/0001 +lent /m)
  t.match(await runCommand(['sagas', 'show', 'nobody'], env), { code: 1, out: '' })
})

t.test('a UUID is itself, in any case', async (t) => {
  const app = await open(t, false)
  const id = randomUUID()
  await app.publish(BookWanted({ loan: id.toUpperCase(), title: 'Emma' }))
  const ended = await app.ended(loan, id)
  t.equal(ended.sagaId, id)
  t.equal(ended.key, undefined, 'it has no other name')
  t.match(await ask(app, `/${id.toUpperCase()}`), { status: 200, body: { sagaId: id } })
  const service = app.service('lending')
  t.same(await service.database.rows('select key from saga'), [{ key: null }])
})

t.test('instances of two sagas with one key do not meet', async (t) => {
  const app = await open(t, false, both)
  await app.publish(BookWanted({ loan: 'A-1', title: 'Emma' }), Asked({ ticket: 'A-1' }))
  await app.ended(loan, 'A-1')
  t.match(await ask(app, '/A-1'), { body: { state: 'lent', key: 'A-1' } })
  const asked = await (await fetch(`${app.url}/sagas/question/A-1`)).json()
  t.match(asked, { state: 'open', key: 'A-1', sagaId: idOfKey('A-1') })
  await app.publish(Answered({ ticket: 'A-1' }))
  await app.ended(question, 'A-1')
  t.same(seen.at(-1), { key: 'A-1', sagaId: idOfKey('A-1') }, 'the service is told both')
})

t.test('a person answers for an instance by its text, and the message has it', async (t) => {
  const lonely = [defineService('lending', { sagas: [loan], sends: [FetchBook] })]
  const elsewhere = defineService('shelf', { handlers: [handle(FetchBook, () => {})] })
  const app = await open(t, false, [...lonely, elsewhere])
  await app.publish(BookWanted({ loan: 'L/2', title: 'Emma' }))
  await until('it has begun', async () => (await ask(app, '/L%2F2')).status === 200)
  const post = (path: string, body: object) =>
    ask(app, `/L%2F2${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body)
    })
  t.match(await ask(app, '/L%2F2/retry', { method: 'POST' }), {
    status: 202,
    body: { sagaId: idOfKey('L/2'), sent: [{ type: 'FetchBook' }] }
  })
  t.match(await post('/answer', { event: 'BookFetched', body: { loan: 'L/3' }, reason: 'x' }), {
    status: 400,
    body: { errors: [{ field: 'body.loan', expected: 'must be L/2, or left out' }] }
  })
  t.match(await post('/answer', { event: 'BookFetched', reason: 'seen on the shelf' }), {
    status: 200,
    body: { sagaId: idOfKey('L/2'), state: 'lent' }
  })
})

t.test('a story is told of a text', async (t) => {
  const { given } = tell(loan)
  const wanted = BookWanted({ loan: 'L-1', title: 'Emma' })
  given(wanted)
    .when(BookFetched({ loan: 'L-1' }))
    .then('lent')
  t.throws(() => given(wanted).when(BookFetched({ loan: 'l-1' })), {
    message: 'BookFetched is for l-1, and this story is of L-1: give both the same loan'
  })
})

t.test(
  'a saga takes no message that says nothing of its instance, nor two of one name',
  async (t) => {
    const other = contracts('shelf', { correlateBy: 'loan', namespace: 'Other' })
    const twice = [BookFetched, other.event('BookFetched', { loan: Type.String() })]
    t.throws(
      () =>
        defineSaga('x', { startedBy: BookWanted, handles: twice }, () => ({ states: {} }) as never),
      { message: /two of its events are called BookFetched/ }
    )
  }
)

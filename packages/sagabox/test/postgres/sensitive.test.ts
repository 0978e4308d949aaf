// Fields that contracts call sensitive, in what operators see and in logs.
import { randomUUID } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { addKey, newKey } from '../../src/access/key-file.ts'
import { Roles } from '../../src/access/roles.ts'
import { Type } from '../../src/index.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { Mask, sensitiveNames } from '../../src/messaging/message/sensitive.ts'
import { handle } from '../../src/messaging/endpoint/handler.ts'
import { defineSaga } from '../../src/saga/steps/define-saga.ts'
import { defineService } from '../../src/service/define.ts'
import { startSagabox } from '../../src/service/start.ts'
import { postgresForTests } from '../../../../test/support/postgres.ts'
import { until } from '../../../../test/support/until.ts'

t.setTimeout(120_000)

const IBAN = 'DE89370400440532013000'
const OWN = { keeper: ['saga:export', 'outbox:read'] }
const secret = { sensitive: true }
const bank = contracts('bank', { correlateBy: 'id' })
const Opened = bank.event('Opened', {
  id: Type.String({ format: 'uuid' }),
  iban: Type.String(secret),
  owner: Type.Object({ email: Type.Optional(Type.String(secret)), city: Type.String() })
})
const Look = bank.command('Look', { id: Type.String(), iban: Type.String(secret) })
const account = defineSaga(
  'account',
  {
    startedBy: Opened,
    handles: [],
    context: ({ iban, owner }) => ({ iban, owner })
  },
  () => ({
    initial: 'open',
    states: { open: { after: { '1h': 'ended' } }, ended: { tags: 'end' } }
  })
)

async function open(t: Test) {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const keysFile = join(folder, 'keys')
  const keys: Record<string, string> = {}
  for (const role of ['viewer', 'operator', 'keeper']) {
    const { key, sha256 } = newKey()
    await addKey(keysFile, new Roles(OWN), { name: role, role, sha256 })
    keys[role] = key
  }
  const lines: string[] = []
  const say = (details: object, message: string) =>
    void lines.push(`${message} ${JSON.stringify(details)}`)
  const service = defineService('bank', {
    sagas: [account],
    sends: [Opened],
    handles: [Look],
    build: ({ log }) => ({
      handlers: [handle(Look, async (body) => log.warn({ body }, 'Looked'))]
    })
  })
  const app = await startSagabox({
    services: [service],
    databaseUrl: await (await postgresForTests()).createDatabase('sensitive'),
    auth: { keysFile, roles: OWN },
    signals: false,
    log: { debug: say, info: say, warn: say, error: say }
  })
  t.teardown(() => app.stop())
  const ask = async (role: string, path: string) => {
    const headers = { authorization: `Bearer ${keys[role]}` }
    const answer = await fetch(app.url + path, { headers })
    return { status: answer.status, text: await answer.text() }
  }
  return { app, ask, lines, database: app.service('bank').database }
}

t.test('what is sensitive is hidden by role, and from logs for all', async (t) => {
  const { app, ask, lines, database } = await open(t)
  const id = randomUUID()
  const body = { id, iban: IBAN, owner: { email: 'ada@example.com', city: 'London' } }
  await app.publish(Opened(body), Look({ id, iban: IBAN }))
  await until('it is there', async () => (await ask('viewer', `/sagas/${id}`)).status === 200)
  const payload = JSON.stringify({ messageId: id, message: body })
  await database.query(
    `insert into dead_letter (endpoint, payload, exception, reason, fingerprint, kind, headers)
     values ('bank', $1, 'Error', 'broken', 'a', 'error', '{"iban":"${IBAN}","kept":1}'),
       ('bank', $2, 'Error', 'broken', 'b', 'error', '{}')`,
    [Buffer.from(`\uFEFF${payload}`), Buffer.from(`${payload} not JSON`)]
  )
  await database.query(
    `insert into outbox (message_id, destination, required, payload, put_off, due_at)
     select gen_random_uuid(), 'nowhere', true, text, 'refused', now() + interval '1 day'
     from unnest($1::text[]) as text`,
    [[payload, JSON.stringify({ iban: IBAN, long: 'x'.repeat(3000) })]]
  )
  await database.query(
    `insert into outbox_scheduled (token, message_id, destination, required, payload, due_at)
     values ('one', gen_random_uuid(), 'nowhere', true, $1, now() + interval '1 day')`,
    [payload]
  )
  const paths = [
    [`/sagas/${id}`, 'viewer', /London/],
    ['/sagas/export', 'keeper', /London/],
    ['/ops/bank/dead-letters/1', 'viewer', /London/],
    ['/ops/bank/dead-letters/2', 'viewer', /"payload":"•••"/],
    ['/ops/bank/outbox/rows', 'viewer', /London/],
    ['/ops/bank/outbox/scheduled', 'keeper', /London/]
  ] as const
  for (const [path, role, kept] of paths) {
    const masked = await ask(role, path)
    t.equal(masked.status, 200, path)
    t.notMatch(masked.text, IBAN, `${path}: hidden from ${role}`)
    t.notMatch(masked.text, 'ada@example.com', path)
    t.match(masked.text, kept, `${path}: the rest is shown`)
    t.match(masked.text, '•••', path)
    t.match((await ask('operator', path)).text, IBAN, `${path}: shown to operators`)
  }
  t.match((await ask('viewer', '/ops/bank/dead-letters/1')).text, '"kept":1')
  const line = await until('the handler has said it', async () =>
    lines.find((one) => one.startsWith('Looked'))
  )
  t.match(line, `"iban":"•••"`)
})

t.test('names of fields, wherever they are', (t) => {
  const schema = Type.Object({
    list: Type.Array(Type.Object({ pin: Type.String(secret) })),
    one: Type.Union([Type.Null(), Type.String(secret)]),
    map: Type.Record(Type.String(), Type.String(secret)),
    open: Type.String()
  })
  t.same(sensitiveNames(schema).toSorted(), ['map', 'one', 'pin'])
  const mask = new Mask([{ schema }])
  t.same(mask.of({ list: [{ pin: '1', no: 2 }], map: { a: 'b' }, at: 1 }), {
    list: [{ pin: '•••', no: 2 }],
    map: '•••',
    at: 1
  })
  const error = new Error('kept')
  t.equal(mask.of({ err: error }).err, error)
  t.equal(mask.ofText(`${'['.repeat(300)}${']'.repeat(300)}`).includes('•••'), true)
  t.equal(new Mask([{ schema: Type.Object({ open: Type.String() }) }]).isNeeded, false)
  t.throws(() => bank.event('Bad', { id: Type.String(secret) }), {
    code: 'INVALID_CONTRACT',
    message: /its field id is sensitive/
  })
  t.end()
})

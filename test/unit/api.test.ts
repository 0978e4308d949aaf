// Holds the library's surface to what is kept of it: whoever changes it sees so in the review.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { examples, filesOf, isPromised } from '../../scripts/api.ts'
import { surfaces } from '../../scripts/api/extract.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** Types that a promised door names and nobody has to write. */
const UNNAMED = new Set(
  Object.values({
    'parts of other types':
      'AnyRow Asked ByHand Doing Extras FieldOf Headers Lacking Lasting Later NoOthers RequestClient Several Undoing',
    'of tables': 'HistoryRow SagaRow',
    'of transports': 'AwaitedEndpoints',
    'of members that are internal':
      'Asks Colleague Correspondent DatabaseOptions DeferredEvent FailedTimer LockedRow Oidc Outage OutboxOptions Relay Roles SagaFault SagaInstance SentBack ServiceReport SessionPool Sessions Told TraceQuestion'
  }).flatMap((names) => names.split(' '))
)

const found = surfaces()
const promised = found.filter(isPromised)

t.test('the reports and the reference are those of the build', async (t) => {
  const changed = [...filesOf(found)]
    .filter(([path, text]) => !existsSync(join(root, path)) || read(path) !== text)
    .map(([path]) => path)
  t.same(changed, [], 'the surface has changed: run `npm run api`, and commit what it writes')
})

t.test('every export has a doc comment', async (t) => {
  const silent = promised.flatMap(({ door, items }) =>
    items
      // What is in a namespace has its own.
      .filter(({ kind, docComment = '' }) => kind !== 'Namespace' && !/\w/.test(docComment))
      .map(({ name }) => [door, name])
  )
  t.same(silent, [])
})

t.test('every export is shown by an example, whose code has its name', async (t) => {
  const shown = examples()
  const hidden = promised.flatMap(({ door, items }) =>
    items
      .filter(
        ({ name }) =>
          !shown.some(
            ({ shows, code }) => shows.includes(name!) && new RegExp(`\\b${name}\\b`).test(code)
          )
      )
      .map(({ name }) => [door, name])
  )
  t.same(hidden, [])
})

for (const name of ['access', 'messages', 'handlers', 'errors', 'sagas', 'fastify'])
  t.test(`the examples of docs/examples/api/${name}.ts hold`, async () => {
    await import(`../../docs/examples/api/${name}.ts`)
  })

t.test('no example shows what is not exported', async (t) => {
  const exported = new Set(promised.flatMap(({ items }) => items.map(({ name }) => name)))
  const gone = examples().flatMap(({ shows }) => shows.filter((name) => !exported.has(name)))
  t.same(gone, [])
})

t.test('what users have to write down is exported', async (t) => {
  const missing = promised.flatMap(({ door, unnamed }) =>
    unnamed.filter((name) => !UNNAMED.has(name)).map((name) => [door, name])
  )
  t.same(missing, [], 'export it with its type, or add it to UNNAMED and say why')
})

function read(path: string): string {
  return readFileSync(join(root, path), 'utf8')
}

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

const script = fileURLToPath(new URL('../../scripts/check-imports.mjs', import.meta.url))

function check(root?: string) {
  const { status, stdout } = spawnSync(process.execPath, root === undefined ? [script] : [script, root], { encoding: 'utf8' })
  return { status, lines: stdout.split('\n').filter(Boolean) }
}

t.test('our own src keeps the rules', async (t) => {
  t.same(check(), { status: 0, lines: [] })
})

const good = {
  'main.ts': "import { start } from './service.ts'\nstart()",
  'service.ts': "import { order } from './order/service.ts'\nexport const start = () => order",
  'config.ts': "import config from 'config'\nexport default config",
  'order/service.ts': "import type { Step } from '../saga/host.ts'\nimport { created } from '../contracts/order.ts'\nexport const order = created as Step",
  'contracts/order.ts': "import { event } from '../messaging/message.ts'\nexport const created = event",
  'saga/host.ts': "import { event } from '../messaging/message.ts'\nexport type Step = typeof event",
  'messaging/message.ts': '// import x from \'../saga/host.ts\' and process.env are only words here\nexport const event = 1',
  'messaging/rabbit.ts': "import { connect } from 'rascal'\nimport type { Channel } from 'amqplib'\nexport default connect as Channel",
}

t.test('a tree that keeps the rules passes', async (t) => {
  t.same(check(tree(t, good)), { status: 0, lines: [] })
})

const broken: [title: string, file: string, code: string, violation: RegExp][] = [
  ['a library that knows a service', 'saga/host.ts', "import { order } from '../order/service.ts'", /saga\/host\.ts: must not import src\/order\/service\.ts/],
  ['messaging that knows the saga', 'messaging/a.ts', "import type { Step } from '../saga/host.ts'", /messaging\/a\.ts: must not import/],
  ['messaging that knows HTTP', 'messaging/a.ts', "export * from '../http/problem.ts'", /messaging\/a\.ts: must not import src\/http\/problem\.ts/],
  ['a library that knows contracts', 'saga/a.ts', "import { created } from '../contracts/order.ts'", /saga\/a\.ts: must not import/],
  ['a contract that knows more than a message', 'contracts/stock.ts', "import x from '../messaging/rabbit.ts'", /contracts\/stock\.ts: must not import/],
  ['services that know each other', 'stock/a.ts', "import {\n  order,\n} from '../order/service.ts'", /stock\/a\.ts: must not import/],
  ['a layer that reaches up', 'payment/a.ts', "import config from '../config.ts'", /payment\/a\.ts: must not import src\/config\.ts/],
  ['somebody who imports main', 'a.ts', "import './main.ts'", /src\/a\.ts: must not import src\/main\.ts/],
  ['a folder without a rule', 'utils/a.ts', '', /utils\/a\.ts: is in the folder utils/],
  ['an environment variable in the library', 'messaging/a.ts', 'export default process.env["X"]', /messaging\/a\.ts: reads process\.env/],
  ['a second file with Rascal', 'messaging/a.ts', "import { connect } from 'rascal'", /messaging\/a\.ts: imports rascal/],
  ['AMQP outside messaging', 'stock/a.ts', "import type { Channel } from 'amqplib/channel_api.js'", /stock\/a\.ts: imports amqplib/],
  ['settings read elsewhere', 'service.ts', "const c = await import('config')", /service\.ts: imports the config package/],
  ['production code that needs a test', 'order/a.ts', "import '../../test/fixtures/a.ts'", /order\/a\.ts: imports .* outside src/],
  ['a cycle of types', 'messaging/message.ts', "import type { A } from './a.ts'", /is in an import cycle: messaging\/message\.ts -> messaging\/a\.ts -> messaging\/message\.ts/],
  ['a barrel', 'order/index.ts', "export * from './service.ts'", /order\/index\.ts: is a barrel/],
  ['a file that is not there', 'order/a.ts', "import './nowhere.ts'", /order\/a\.ts: imports \.\/nowhere\.ts, which does not exist/],
]

for (const [title, file, code, violation] of broken) {
  t.test(`refuses ${title}`, async (t) => {
    const others = { 'http/problem.ts': 'export const p = 1', 'messaging/a.ts': "import type { event } from './message.ts'\nexport type A = typeof event" }
    const { status, lines } = check(tree(t, { ...good, ...others, [file]: code }))
    t.equal(status, 1)
    t.ok(lines.some((line) => violation.test(line)), lines.join('\n'))
  })
}

function tree(t: Test, files: Record<string, string>): string {
  const root = t.testdir()
  for (const [name, code] of Object.entries(files)) {
    const path = join(root, 'src', name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, code)
  }
  return root
}

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

const script = fileURLToPath(new URL('../../scripts/check-imports.mjs', import.meta.url))

function check(root?: string) {
  const { status, stdout } = spawnSync(
    process.execPath,
    root === undefined ? [script] : [script, root],
    { encoding: 'utf8' }
  )
  return { status, lines: stdout.split('\n').filter(Boolean) }
}

t.test('our own buildings keep the rules', async (t) => {
  t.same(check(), { status: 0, lines: [] })
})

const LIBRARY = 'packages/sagabox/src'

const good = {
  'packages/sagabox/package.json': JSON.stringify({
    name: 'sagabox',
    exports: {
      '.': './src/index.ts',
      './engine': './src/engine.ts',
      './package.json': './package.json'
    }
  }),
  'src/main.ts': "import { start } from './shop.ts'\nstart()",
  'src/shop.ts': "import { order } from './order/service.ts'\nexport const start = () => order",
  'src/config.ts': "import config from 'config'\nexport default config",
  'src/order/service.ts':
    "import { run } from 'sagabox/engine'\nimport { created } from '../contracts/order.ts'\nimport { machine } from '../saga/machine.ts'\nexport const order = [created, machine, run]",
  'src/saga/machine.ts':
    "import { created } from '../contracts/order.ts'\nexport const machine = created",
  'src/contracts/order.ts': "import { event } from 'sagabox'\nexport const created = event",
  [`${LIBRARY}/index.ts`]: "export { event } from './messaging/message/message.ts'",
  [`${LIBRARY}/engine.ts`]: "export { host as run } from './saga/run/host.ts'",
  [`${LIBRARY}/saga/run/host.ts`]:
    "import { event } from '../../messaging/message/message.ts'\nexport const host = event",
  [`${LIBRARY}/http/sagas.ts`]:
    "import { host } from '../saga/run/host.ts'\nexport const routes = host",
  [`${LIBRARY}/messaging/message/message.ts`]:
    "// import x from '../../saga/run/host.ts' and process.env are only words here\nexport const event = 1",
  [`${LIBRARY}/messaging/rabbitmq/rascal.ts`]:
    "import { connect } from 'rascal'\nimport type { Channel } from 'amqplib'\nexport default connect as Channel",
  [`${LIBRARY}/cannot-start.ts`]: 'export const cannotStart = 1'
}

t.test('a tree that keeps the rules passes', async (t) => {
  t.same(check(tree(t, good)), { status: 0, lines: [] })
})

const broken: [title: string, file: string, code: string, violation: RegExp][] = [
  [
    'a library that knows a service',
    `${LIBRARY}/saga/run/a.ts`,
    "import { order } from '../../../../../src/order/service.ts'",
    /saga\/run\/a\.ts: imports .* outside packages\/sagabox\/src/
  ],
  [
    'messaging that knows the saga',
    `${LIBRARY}/messaging/outbox/a.ts`,
    "import type { host } from '../../saga/run/host.ts'",
    /outbox\/a\.ts: must not import/
  ],
  [
    'an engine that knows HTTP',
    `${LIBRARY}/saga/run/a.ts`,
    "export * from '../../http/sagas.ts'",
    /saga\/run\/a\.ts: must not import packages\/sagabox\/src\/http\/sagas\.ts/
  ],
  [
    'a room of messaging that reaches up',
    `${LIBRARY}/messaging/message/a.ts`,
    "import x from '../rabbitmq/rascal.ts'",
    /message\/a\.ts: must not import/
  ],
  [
    'a room that goes through a door',
    `${LIBRARY}/http/a.ts`,
    "import { event } from '../index.ts'",
    /http\/a\.ts: must not import packages\/sagabox\/src\/index\.ts/
  ],
  [
    'a library that imports itself by name',
    `${LIBRARY}/http/a.ts`,
    "import { event } from 'sagabox'",
    /http\/a\.ts: imports sagabox; inside/
  ],
  [
    'embedded servers that know the engine',
    `${LIBRARY}/embedded/a.ts`,
    "import { event } from '../messaging/message/message.ts'",
    /embedded\/a\.ts: must not import/
  ],
  [
    'a file of the library, past its doors',
    'src/order/a.ts',
    "import { host } from '../../packages/sagabox/src/saga/run/host.ts'",
    /order\/a\.ts: imports .* outside src/
  ],
  [
    'a deep import of the package',
    'src/order/a.ts',
    "import { host } from 'sagabox/dist/saga/run/host.js'",
    /order\/a\.ts: imports sagabox\/dist\/saga\/run\/host\.js, which is no door/
  ],
  [
    'a door that is not there',
    'src/a.ts',
    "import { host } from 'sagabox/back'",
    /src\/a\.ts: imports sagabox\/back, which is no door of the library; expected one of sagabox, sagabox\/engine/
  ],
  [
    'a contract that knows a service',
    'src/contracts/stock.ts',
    "import x from '../order/service.ts'",
    /contracts\/stock\.ts: must not import/
  ],
  [
    'services that know each other',
    'src/stock/a.ts',
    "import {\n  order,\n} from '../order/service.ts'",
    /stock\/a\.ts: must not import/
  ],
  [
    'a service that knows the saga of orders',
    'src/stock/a.ts',
    "import { machine } from '../saga/machine.ts'",
    /stock\/a\.ts: must not import/
  ],
  [
    'a layer that reaches up',
    'src/payment/a.ts',
    "import config from '../config.ts'",
    /payment\/a\.ts: must not import src\/config\.ts/
  ],
  [
    'somebody who imports main',
    'src/a.ts',
    "import './main.ts'",
    /src\/a\.ts: must not import src\/main\.ts/
  ],
  ['a folder without a rule', 'src/utils/a.ts', '', /utils\/a\.ts: is in the folder utils/],
  [
    'a room without a rule',
    `${LIBRARY}/messaging/utils/a.ts`,
    '',
    /utils\/a\.ts: is in the folder messaging\/utils/
  ],
  [
    'an environment variable in the library',
    `${LIBRARY}/messaging/outbox/a.ts`,
    'export default process.env["X"]',
    /outbox\/a\.ts: reads process\.env/
  ],
  [
    'a second file with Rascal',
    `${LIBRARY}/messaging/rabbitmq/a.ts`,
    "import { connect } from 'rascal'",
    /rabbitmq\/a\.ts: imports rascal/
  ],
  [
    'AMQP outside its room',
    'src/stock/a.ts',
    "import type { Channel } from 'amqplib/channel_api.js'",
    /stock\/a\.ts: imports amqplib/
  ],
  [
    'an ORM beside its door',
    `${LIBRARY}/http/sagas.ts`,
    "import type { Kysely } from 'kysely'",
    /http\/sagas\.ts: imports kysely; only the door kysely\.ts may/
  ],
  [
    'settings read elsewhere',
    'src/shop.ts',
    "const c = await import('config')",
    /shop\.ts: imports the config package/
  ],
  [
    'production code that needs a test',
    'src/order/a.ts',
    "import '../../test/support/a.ts'",
    /order\/a\.ts: imports .* outside src/
  ],
  [
    'a cycle of types',
    `${LIBRARY}/messaging/message/message.ts`,
    "import type { A } from './a.ts'",
    /is in an import cycle: messaging\/message\/message\.ts -> messaging\/message\/a\.ts -> messaging\/message\/message\.ts/
  ],
  [
    'a barrel',
    'src/order/index.ts',
    "export * from './service.ts'",
    /order\/index\.ts: is a barrel/
  ],
  [
    'a file that is not there',
    'src/order/a.ts',
    "import './nowhere.ts'",
    /order\/a\.ts: imports \.\/nowhere\.ts, which does not exist/
  ]
]

for (const [title, file, code, violation] of broken) {
  t.test(`refuses ${title}`, async (t) => {
    const others = {
      [`${LIBRARY}/messaging/message/a.ts`]:
        "import type { event } from './message.ts'\nexport type A = typeof event"
    }
    const { status, lines } = check(tree(t, { ...good, ...others, [file]: code }))
    t.equal(status, 1)
    t.ok(
      lines.some((line) => violation.test(line)),
      lines.join('\n')
    )
  })
}

function tree(t: Test, files: Record<string, string>): string {
  const root = t.testdir()
  for (const [name, code] of Object.entries(files)) {
    const path = join(root, name)
    mkdirSync(dirname(path), { recursive: true })
    writeFileSync(path, code)
  }
  return root
}

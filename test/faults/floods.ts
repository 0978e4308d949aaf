import { randomUUID } from 'node:crypto'
import { connect } from 'amqplib'
import pg from 'pg'
import type { Answer } from '../support/api.ts'
import type { LogLine } from '../support/program.ts'
import { until } from '../support/until.ts'
import type { Fault, Scene } from './fault.ts'
import { whileLocked } from './lock.ts'

const AT_ONCE = 400
/** More than may wait to be recorded. */
const TOO_MANY = 1500
/** Of a kind, to each queue. */
const MESSAGES = 100
const BODY_BYTES = 64 * 1024
const MESSAGE_BYTES = 1024 * 1024
/** That no message may make the event loop stand still for. */
const LONGEST_MS = 200
/** The longest names that there may be, as many as an order may hold. */
const PRODUCTS = Array.from({ length: 100 }, (_, index) => `product-${index}-`.padEnd(64, 'x'))
const QUEUES = {
  order: 'StockReservedEvent',
  stock: 'OrderCreatedEvent',
  payment: 'StockReservedEvent'
}

/** Much at once, and the worst that fits through the limits. */
export const floodFaults: Fault[] = [
  {
    name: 'floods of the largest and the worst',
    transports: ['rabbitmq'],
    site: {
      parts: ['all'],
      env: { NODE_OPTIONS: `--import=${new URL('standstill.mjs', import.meta.url).href}` }
    },
    shop: { products: PRODUCTS, methods: ['pm_card_visa'] },
    async inject(scene) {
      const messages = messageFloods(scene)
      const floods = { ...requestFloods(scene), ...messages, ...readFloods(scene) }
      for (const [name, flood] of Object.entries(floods)) {
        const busy = await measured(scene, name, flood)
        if (Object.hasOwn(messages, name) && busy > LONGEST_MS)
          scene.broken.push(
            `no message stops the event loop for ${LONGEST_MS} ms: ${name}, ${busy}`
          )
      }
      return Object.keys(floods).length
    }
  }
]

/**
 * Lets the flood in, and prints how long the event loop stood still at most.
 * @returns how long the process was busy in one standstill at most, ms: that does not depend on who
 * else uses the processors
 */
async function measured(
  { site }: Scene,
  name: string,
  flood: () => Promise<string>
): Promise<number> {
  const began = Date.now()
  const result = await flood()
  const program = await site.program('all')
  // An answer comes after the last standstill.
  await fetch(`${program.url}/health/live`)
  const standstills = program
    .logged((line) => stoodStill(line) && line.at >= began)
    .map((line) => line as Standstill)
  const longest = Math.max(0, ...standstills.map(({ ms }) => ms))
  const busy = Math.max(0, ...standstills.map(({ ms, cpuMs }) => Math.min(ms, cpuMs)))
  const seconds = ((Date.now() - began) / 1000).toFixed(1)
  console.log(`     ${name}: ${longest} ms at most, ${busy} of its own, ${seconds} s, ${result}`)
  return busy
}

type Standstill = LogLine & { at: number; ms: number; cpuMs: number }

function stoodStill(line: LogLine): line is Standstill {
  return line.msg === 'stood still'
}

type Floods = Record<string, () => Promise<string>>

function requestFloods({ site, shop, broken }: Scene): Floods {
  let customers = 0
  const order = (lines: number, bytes = 0) => {
    const items = Array.from({ length: lines }, (_, line) => ({
      productId: PRODUCTS[line]!,
      quantity: 1
    }))
    return JSON.stringify({
      customerId: `flood-${customers++}`,
      items,
      paymentMethod: 'pm_card_visa'
    }).padEnd(bytes)
  }
  const post = (count: number, bodyOf: (index: number) => string) =>
    Array.from({ length: count }, (_, index) => call(site, 'POST', '/orders', bodyOf(index)))
  const answered = async (sent: Promise<Answer>[]) => {
    const answers = await Promise.all(sent)
    for (const { status, body } of answers)
      if (status === 202) shop.accepted.add(body.orderId as string)
    broken.push(...wrongRefusals(answers))
    return tally(answers)
  }
  return {
    'orders of the most items, at the limit of bodies': () =>
      answered(post(AT_ONCE, () => order(100, BODY_BYTES))),
    'bodies that are no orders': () =>
      answered(post(AT_ONCE, (index) => WORST_BODIES[index % WORST_BODIES.length]!)),
    'more orders than may wait': async () => {
      let sent: Promise<Answer>[] = []
      await whileLocked(
        site.databaseUrl,
        'lock table order_service.orders in exclusive mode',
        () => {
          sent = post(TOO_MANY, () => order(1))
          return Promise.any(
            sent.map(
              async (one) => (await one).status === 503 || Promise.reject(new Error('taken'))
            )
          )
        }
      )
      return answered(sent)
    }
  }
}

const WORST_BODIES = [
  `{${Array.from({ length: 6000 }, (_, index) => `"k${index}":1`).join()}}`,
  `{"items":[${Array.from({ length: 20_000 }, () => '{}').join()}]}`,
  `{"items":${'['.repeat(30_000)}${']'.repeat(30_000)}}`,
  `{"items":[${'{"productId":"x","quantity":1},'.repeat(2000)}`,
  `{"customerId":"${'\\u0041'.repeat(10_000)}"}`
]

function messageFloods({ site, poisoned }: Scene): Floods {
  const send = (bodyOf: (id: string, type: string) => string) => async () => {
    const connection = await connect(site.brokerUrl!)
    const channel = await connection.createConfirmChannel()
    for (const [queue, type] of Object.entries(QUEUES)) {
      for (let index = 0; index < MESSAGES; index++) {
        const id = randomUUID()
        poisoned.add(id)
        channel.sendToQueue(queue, Buffer.from(bodyOf(id, type)), {
          messageId: id,
          contentType: 'application/vnd.masstransit+json'
        })
      }
    }
    await channel.waitForConfirms()
    await connection.close()
    let letters = 0
    const areAll = async () =>
      (letters = await lettersOf(site.databaseUrl, poisoned)) === poisoned.size
    const progress = () => `${letters} of ${poisoned.size}`
    await until('all are dead letters', areAll, { progress })
    return `${MESSAGES} to each queue`
  }
  const envelope = (id: string, type: string, more: string) => {
    const start = `{"messageId":"${id}","messageType":["urn:message:Contracts:${type}"],"message":{`
    return `${start}${more}}}`
  }
  const filled = (piece: string) => piece.repeat(Math.floor((MESSAGE_BYTES - 300) / piece.length))
  const nothings = `"items":[${filled('{},')}{}]`
  const fields = (count: number) =>
    Array.from({ length: count }, (_, index) => `"k${index}":1`).join()
  const deep = `"items":${'['.repeat(500_000)}${']'.repeat(500_000)}`
  const broken = `"items":[${filled('{"a":[1]},')}`
  return {
    'messages of 300,000 objects': send((id, type) => envelope(id, type, nothings)),
    'messages of 70,000 fields': send((id, type) => envelope(id, type, fields(70_000))),
    'messages of 49,000 fields, as many as are read': send((id, type) =>
      envelope(id, type, fields(49_000))
    ),
    'messages 500,000 deep': send((id, type) => envelope(id, type, deep)),
    'messages that are broken off': send((id, type) => envelope(id, type, broken).slice(0, -2))
  }
}

async function lettersOf(databaseUrl: string, ids: ReadonlySet<string>): Promise<number> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const letters = ['order', 'stock', 'payment'].map(
      (service) => `select message_id from ${service}_service.dead_letter`
    )
    const { rows } = await client.query<{ count: number }>(
      `select count(*)::integer from (${letters.join(' union all ')}) as letters where message_id = any($1)`,
      [[...ids]]
    )
    return rows[0]!.count
  } finally {
    await client.end()
  }
}

function readFloods({ site, broken }: Scene): Floods {
  const get =
    (...paths: string[]) =>
    async () => {
      const answers = await Promise.all(
        Array.from({ length: AT_ONCE }, (_, index) =>
          call(site, 'GET', paths[index % paths.length]!)
        )
      )
      broken.push(...wrongRefusals(answers))
      return tally(answers)
    }
  return {
    'pages of orders, sagas, payments and products': get(
      '/orders?limit=100',
      '/sagas?limit=100',
      '/payments?limit=100',
      '/products?limit=100'
    ),
    'pages of dead letters': get(
      ...Object.keys(QUEUES).map((name) => `/ops/${name}/dead-letters?limit=100`)
    ),
    'dead letters of 1 MiB': async () => {
      const { body } = await call(site, 'GET', '/ops/stock/dead-letters?limit=100')
      const letters = (body.items as { id: number }[]).map(
        ({ id }) => `/ops/stock/dead-letters/${id}`
      )
      return get(...letters, ...letters.map((path) => `${path}/payload`))()
    },
    'exports of all sagas': get('/sagas/export')
  }
}

async function call(
  site: Scene['site'],
  method: string,
  path: string,
  body?: string
): Promise<Answer> {
  return (await site.api()).call(method, path, body)
}

/** Whoever is refused for now is told when to come back. */
function wrongRefusals(answers: readonly Answer[]): string[] {
  const wrong = answers.filter(
    ({ status, headers }) => status >= 500 && (status !== 503 || !headers.has('retry-after'))
  )
  return wrong.length === 0
    ? []
    : [
        `overload is answered by 503 with Retry-After: not so for ${wrong.length}, e.g. ${wrong[0]!.status}`
      ]
}

function tally(answers: readonly Answer[]): string {
  const counts = new Map<number, number>()
  for (const { status } of answers) counts.set(status, (counts.get(status) ?? 0) + 1)
  return [...counts].map(([status, count]) => `${count} × ${status}`).join(', ')
}

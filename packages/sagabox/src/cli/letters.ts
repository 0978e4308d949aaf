import { setTimeout as pause } from 'node:timers/promises'
import Type, { type Static } from 'typebox'
import { EXIT, WrongUsage, type Call, type Command, type Exit, type Group } from './command.ts'
import { more, PAGE_OPTIONS, partOf, readList } from './pages.ts'
import { Server, SERVER_OPTIONS, untilInterrupted, type Query } from './server.ts'
import { SERVICE_OPTION, serviceOf, servicesOf } from './service-of.ts'
import { clean, cleanLines, pairs, table, time } from './text.ts'

/** Between two looks at what is watched, ms. */
const LOOK_MS = 1000
/** Letters that a look at new ones reads. */
const LOOK_LETTERS = 100

const Maybe = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const Summary = Type.Object({
  id: Type.Integer(),
  kind: Type.String(),
  status: Type.String(),
  messageId: Maybe(Type.String()),
  type: Maybe(Type.String()),
  correlationId: Maybe(Type.String()),
  exception: Type.String(),
  reason: Type.String(),
  seen: Type.Integer(),
  firstSeenAt: Type.String(),
  lastSeenAt: Type.String(),
  bytes: Type.Integer()
})
const Detail = Type.Object({
  ...Summary.properties,
  endpoint: Type.String(),
  stack: Maybe(Type.String()),
  attempts: Type.Array(Type.Object({ at: Type.String(), error: Type.String() })),
  attemptsLeftOut: Type.Integer(),
  headers: Type.Record(Type.String(), Type.Unknown()),
  payload: Type.String(),
  payloadEncoding: Type.String()
})
const GroupOfLetters = Type.Object({
  kind: Type.String(),
  status: Type.String(),
  type: Maybe(Type.String()),
  exception: Type.String(),
  count: Type.Integer(),
  newest: Type.String(),
  reason: Type.String()
})
const Groups = Type.Object({
  total: Type.Integer(),
  atLeast: Type.Boolean(),
  groups: Type.Array(GroupOfLetters)
})
const Page = Type.Object({ items: Type.Array(Summary) })
const Retried = Type.Object({
  id: Type.Integer(),
  status: Type.String(),
  warning: Type.Optional(Type.String())
})
const GroupRetry = Type.Object({
  id: Type.Integer(),
  state: Type.String(),
  reason: Maybe(Type.String()),
  left: Type.Integer(),
  sent: Type.Integer(),
  handled: Type.Integer(),
  failedAgain: Type.Integer(),
  underWay: Type.Integer(),
  lost: Type.Integer(),
  warning: Type.Optional(Type.String())
})

const UTC = { utc: { help: 'times in UTC instead of this machine’s zone' } }
const OPTIONS = { ...SERVICE_OPTION, ...SERVER_OPTIONS }
const FILTERS = {
  type: { value: 'TYPE', help: 'of the message, such as OrderCreatedEvent' },
  exception: { value: 'NAME', help: 'of the error, such as TypeError' },
  reason: { value: 'TEXT', help: 'a part of the reason' },
  kind: { value: 'KIND', help: 'error: not handled; skipped: no handler takes its type' },
  message: { value: 'ID', help: 'the message’s id' },
  correlation: { value: 'ID', help: 'the correlation id, such as a saga’s' },
  from: { value: 'TIME', help: 'last seen at this time or later' },
  to: { value: 'TIME', help: 'last seen before this time' }
}
const WHY = { why: { value: 'TEXT', help: 'for those who read the audit' } }
const STATUS = {
  status: { value: 'STATUS', help: 'waiting, retrying, handled or undone' }
}

const groups: Command = {
  summary: 'How many wait, by type and error; 1 when any does',
  options: { ...FILTERS, ...STATUS, ...OPTIONS },
  async run(call) {
    const { options, terminal } = call
    const server = new Server(call)
    const query = { ...filterOf(call), status: options.text('status') }
    const found = []
    for (const service of await servicesOf(call, server))
      found.push({ service, ...(await server.get(`${pathOf(service)}/groups`, Groups, query)) })
    const rows = found.flatMap(({ service, groups: all }) =>
      all.map((one) => ({ service, ...one }))
    )
    type Row = (typeof rows)[number]
    if (options.has('json')) terminal.json(found)
    else if (rows.length === 0) terminal.print('No dead letter')
    else
      terminal.print(
        ...table(
          rows,
          [
            { title: 'SERVICE', of: (row: Row) => row.service },
            { title: 'COUNT', of: (row: Row) => row.count, right: true },
            { title: 'STATUS', of: (row: Row) => row.status },
            { title: 'TYPE', of: (row: Row) => row.type ?? '-', shrinks: true },
            { title: 'ERROR', of: (row: Row) => row.exception, shrinks: true },
            { title: 'REASON', of: (row: Row) => row.reason, shrinks: true }
          ],
          terminal.width
        )
      )
    return rows.some(({ status }) => status === 'waiting') ? EXIT.found : EXIT.ok
  }
}

const list: Command = {
  summary: 'Dead letters of a service, newest first',
  options: { ...FILTERS, ...STATUS, ...PAGE_OPTIONS, ...UTC, ...OPTIONS },
  async run(call) {
    const { options, terminal } = call
    const part = partOf(call)
    const server = new Server(call)
    const path = pathOf(await serviceOf(call, server))
    const query = { ...filterOf(call), status: options.text('status') }
    const found = await readList(server, path, Summary, query, part)
    type Row = Static<typeof Summary>
    if (options.has('json')) terminal.json(found)
    else if (found.items.length === 0) terminal.print('No dead letter', ...more(found))
    else
      terminal.print(
        ...table(
          found.items,
          [
            { title: 'ID', of: (row: Row) => row.id, right: true },
            { title: 'LAST SEEN', of: (row) => time(row.lastSeenAt, options.has('utc')) },
            { title: 'STATUS', of: (row) => row.status },
            { title: 'TYPE', of: (row) => row.type ?? '-', shrinks: true },
            { title: 'REASON', of: (row) => row.reason, shrinks: true }
          ],
          terminal.width
        ),
        ...more(found)
      )
    return EXIT.ok
  }
}

const show: Command = {
  summary: 'One dead letter: cause, every attempt, payload',
  parameters: ['ID'],
  options: { ...UTC, ...OPTIONS },
  async run(call) {
    const { options, terminal } = call
    const id = idOf(call)
    const server = new Server(call)
    const path = pathOf(await serviceOf(call, server))
    const letter = await server.get(`${path}/${id}`, Detail)
    if (options.has('json')) terminal.json(letter)
    else terminal.print(...describe(letter, options.has('utc')))
    return EXIT.ok
  }
}

const retry: Command = {
  summary:
    'Send one back to its endpoint; without an ID all that wait and fit, which --all says, too',
  parameters: ['[ID]'],
  options: {
    ...FILTERS,
    all: { help: 'all that wait' },
    ...WHY,
    'per-second': { value: 'N', help: 'letters a second, 20 when not given' },
    ...OPTIONS
  },
  async run(call) {
    const { options, terminal, parameters } = call
    const filter = filterOf(call)
    const filtered = Object.values(filter).some((value) => value !== undefined)
    const one = parameters['ID'] !== undefined
    if ([one, filtered, options.has('all')].filter(Boolean).length !== 1)
      throw new WrongUsage('which? Expected an ID, or filters, or --all')
    const id = one ? idOf(call) : undefined
    const perSecond = options.integer('per-second', 1, 1000)
    const why = one ? options.text('why') : whyOf(call)
    const server = new Server(call)
    const service = await serviceOf(call, server)
    const path = pathOf(service)
    if (id !== undefined) {
      const retried = await server.post(`${path}/${id}/retry`, Retried, undefined, { why })
      if (options.has('json')) terminal.json(retried)
      else terminal.print(`Letter ${id} was sent back`)
      if (retried.warning) terminal.note(clean(retried.warning))
      return EXIT.ok
    }
    const began = await server.post(`${path}/retry`, GroupRetry, {
      ...filter,
      perSecond,
      why
    })
    // The first may be on its way by now.
    const fitting = began.left + began.sent
    if (options.has('json')) terminal.json(began)
    else
      terminal.print(
        `Group retry ${began.id} has begun; ${fitting} letters fit. Follow it:`,
        `  sagabox letters watch ${began.id} --service ${service}`
      )
    if (began.warning) terminal.note(clean(began.warning))
    return EXIT.ok
  }
}

const watch: Command = {
  summary: 'Letters as they come; with the ID of a group retry how that goes, until it ends',
  parameters: ['[ID]'],
  options: { ...UTC, ...OPTIONS },
  async run(call) {
    const id = call.parameters['ID'] === undefined ? undefined : idOf(call)
    const server = new Server(call)
    const path = pathOf(await serviceOf(call, server))
    return untilInterrupted(call, () =>
      id === undefined
        ? watchLetters(call, server, path)
        : watchRetry(call, server, `${path}/retries/${id}`)
    )
  }
}

const remove: Command = {
  summary: 'Delete a dead letter; it can be brought back for 30 days',
  parameters: ['ID'],
  options: { ...WHY, ...OPTIONS },
  async run(call) {
    const { options, terminal } = call
    const id = idOf(call)
    const why = whyOf(call)
    const server = new Server(call)
    const path = pathOf(await serviceOf(call, server))
    await server.delete(`${path}/${id}`, { why })
    if (options.has('json')) terminal.json({ id: Number(id), status: 'deleted' })
    else terminal.print(`Letter ${id} was deleted`)
    return EXIT.ok
  }
}

export const group: Group = { groups, list, show, retry, watch, delete: remove }

function pathOf(service: string): string {
  return `/ops/${service}/dead-letters`
}

function idOf({ parameters }: Call): string {
  const id = parameters['ID']!
  if (/^[0-9]{1,15}$/.test(id)) return id
  throw new WrongUsage(`${id} is no id here; expected a number, as the list has it`)
}

/** @throws WrongUsage */
function whyOf({ options }: Call): string {
  const why = options.text('why')
  if (why === undefined) throw new WrongUsage('why? Expected --why TEXT')
  return why
}

function filterOf({ options }: Call): Query {
  return {
    type: options.text('type'),
    exception: options.text('exception'),
    reason: options.text('reason'),
    kind: options.text('kind'),
    messageId: options.text('message'),
    correlationId: options.text('correlation'),
    from: options.text('from'),
    to: options.text('to')
  }
}

async function watchLetters(
  { options, terminal }: Call,
  server: Server,
  path: string
): Promise<Exit> {
  let known: Set<string> | undefined
  for (; ; await pause(LOOK_MS, undefined, { signal: terminal.interrupted })) {
    const { items } = await server.get(path, Page, { limit: LOOK_LETTERS })
    const seen = ({ id, seen: times }: Static<typeof Summary>) => `${id} ${times}`
    const fresh = items.filter((letter) => known && !known.has(seen(letter))).toReversed()
    known = new Set(items.map(seen))
    for (const letter of fresh) {
      if (options.has('json')) await terminal.jsonLine(JSON.stringify(letter))
      else {
        const { id, lastSeenAt, type, reason } = letter
        const moment = time(lastSeenAt, options.has('utc'))
        terminal.print(`${moment}  ${id}  ${clean(type ?? '-')}: ${clean(reason)}`)
      }
    }
  }
}

async function watchRetry({ options, terminal }: Call, server: Server, path: string) {
  let last = ''
  for (; ; await pause(LOOK_MS, undefined, { signal: terminal.interrupted })) {
    const retrying = await server.get(path, GroupRetry)
    const { state, reason, left, sent, handled, failedAgain, underWay, lost } = retrying
    const line = options.has('json')
      ? JSON.stringify(retrying)
      : `${clean(state)}: ${sent} sent, ${handled} handled, ${failedAgain} failed again, ` +
        `${underWay} under way, ${lost} lost, ${left} left${reason === null ? '' : `. ${clean(reason)}`}`
    if (line !== last) await (options.has('json') ? terminal.jsonLine(line) : terminal.print(line))
    last = line
    if (state === 'running' || underWay > 0) continue
    return state === 'done' && failedAgain === 0 && lost === 0 ? EXIT.ok : EXIT.found
  }
}

function describe(letter: Static<typeof Detail>, utc: boolean): string[] {
  const { attempts, attemptsLeftOut: leftOut, headers } = letter
  const isText = letter.payloadEncoding === 'utf8'
  return [
    `${letter.id}  ${clean(letter.type ?? 'of no type that is known')}  ${clean(letter.status)}`,
    '',
    ...pairs([
      ['endpoint', letter.endpoint],
      ['message', letter.messageId],
      ['correlation', letter.correlationId],
      ['error', letter.exception],
      ['reason', letter.reason],
      ['seen', `${letter.seen} times, first ${time(letter.firstSeenAt, utc)}`],
      ['last seen', time(letter.lastSeenAt, utc)]
    ]),
    ...titled(
      'Attempts',
      attempts.map(({ at, error }) => `${time(at, utc)}  ${clean(error)}`)
    ),
    ...(leftOut > 0 ? [`  ${leftOut} in between were not kept`] : []),
    ...titled('Stack', letter.stack === null ? [] : cleanLines(letter.stack)),
    ...titled(
      'Headers',
      Object.entries(headers).map(([name, value]) => `${clean(name)}: ${clean(value)}`)
    ),
    ...titled(
      `Payload, ${letter.bytes} bytes${isText ? '' : ', in base64'}`,
      cleanLines(letter.payload)
    )
  ]
}

function titled(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${line}`)]
}

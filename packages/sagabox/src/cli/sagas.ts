import { setTimeout as pause } from 'node:timers/promises'
import Type, { type Static } from 'typebox'
import {
  EXIT,
  NotDone,
  WrongUsage,
  type Call,
  type Command,
  type Exit,
  type Group
} from './command.ts'
import { more, PAGE_OPTIONS, partOf, readList } from './pages.ts'
import { Server, SERVER_OPTIONS, untilInterrupted } from './server.ts'
import { age, clean, pairs, table, time } from './text.ts'

/** Between two looks at what is watched, ms. */
const LOOK_MS = 1000
/** Characters of a context that are shown. */
const CONTEXT_SHOWN = 2000

const Maybe = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const Summary = Type.Object({
  sagaId: Type.String(),
  key: Type.Optional(Type.String()),
  state: Type.String(),
  version: Type.Integer(),
  machineVersion: Type.Integer(),
  createdAt: Type.String(),
  updatedAt: Type.String(),
  stuckSince: Maybe(Type.String())
})
const Sent = Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() }))
const Step = Type.Object({
  sequence: Type.Integer(),
  event: Type.String(),
  from: Maybe(Type.String()),
  to: Type.String(),
  sent: Sent,
  note: Maybe(Type.String()),
  at: Type.String()
})
const Detail = Type.Object({
  ...Summary.properties,
  context: Type.Record(Type.String(), Type.Unknown()),
  accepts: Type.Array(Type.String()),
  timers: Type.Array(Type.Object({ event: Type.String(), dueAt: Type.String() })),
  waitingFor: Maybe(
    Type.Object({
      events: Type.Array(Type.String()),
      commands: Type.Array(Type.String()),
      since: Type.String(),
      attempts: Type.Integer(),
      lastError: Maybe(Type.Object({ at: Type.String(), message: Type.String() }))
    })
  ),
  deferred: Type.Array(Type.Object({ event: Type.String() })),
  historyBefore: Maybe(Type.Integer()),
  history: Type.Array(Step)
})
const Replay = Type.Object({
  consistent: Type.Boolean(),
  steps: Type.Integer(),
  unknownVersions: Type.Integer(),
  state: Type.String(),
  firstDifference: Maybe(
    Type.Object({
      sequence: Type.Integer(),
      what: Type.String(),
      recorded: Type.Unknown(),
      replayed: Type.Unknown()
    })
  )
})
const Counts = Type.Object({
  stuck: Type.Integer(),
  byState: Type.Record(Type.String(), Type.Integer())
})
const Retried = Type.Object({ sagaId: Type.String(), state: Type.String(), sent: Sent })
const Explanation = Type.Object({
  sentence: Type.String(),
  severity: Type.String(),
  finding: Type.String(),
  evidence: Type.Array(Type.Object({ text: Type.String() })),
  suggestions: Type.Array(
    Type.Object({ text: Type.String(), target: Type.Optional(Type.String()) })
  )
})
const Definitions = Type.Object({ items: Type.Array(Type.Object({ name: Type.String() })) })

const UTC = { utc: { help: 'times in UTC instead of this machine’s zone' } }
const OPTIONS = {
  saga: { value: 'NAME', help: 'of the saga, where the server has several' },
  ...SERVER_OPTIONS
}

const list: Command = {
  summary: 'Instances, newest first',
  options: {
    state: { value: 'STATE', help: 'in this state, or in any inside it' },
    stuck: { help: 'those that have waited longer than their deadline, stalest first' },
    ...PAGE_OPTIONS,
    ...UTC,
    ...OPTIONS
  },
  async run(call) {
    const { options, terminal } = call
    const part = partOf(call)
    const { server, path } = await open(call)
    const query = { state: options.text('state'), ...(options.has('stuck') && { stuck: 'true' }) }
    const found = await readList(server, path, Summary, query, part)
    if (options.has('json')) terminal.json(found)
    else if (found.items.length === 0) terminal.print('No instance', ...more(found))
    else {
      const columns = [
        { title: 'SAGA', of: (row: Static<typeof Summary>) => row.key ?? row.sagaId },
        { title: 'STATE', of: (row: Static<typeof Summary>) => row.state, shrinks: true },
        {
          title: 'UPDATED',
          of: (row: Static<typeof Summary>) => time(row.updatedAt, options.has('utc'))
        },
        {
          title: 'STUCK',
          of: ({ stuckSince }: Static<typeof Summary>) => stuckSince && since(stuckSince)
        }
      ]
      terminal.print(...table(found.items, columns, terminal.width), ...more(found))
    }
    return options.has('stuck') && found.items.length > 0 ? EXIT.found : EXIT.ok
  }
}

const show: Command = {
  summary: 'One instance: what it knows, what it waits for, and its history',
  parameters: ['ID'],
  options: {
    before: { value: 'N', help: 'only steps before this one' },
    ...UTC,
    ...OPTIONS
  },
  async run(call) {
    const { options, terminal } = call
    const id = await idOf(call)
    const before = options.integer('before', 1, 999_999_999)
    const { server, path } = await open(call)
    const one = await server.get(`${path}/${id}`, Detail, { before })
    if (options.has('json')) terminal.json(one)
    else terminal.print(...describe(one, options.has('utc'), terminal.width))
    return EXIT.ok
  }
}

const explain: Command = {
  summary: 'Why an instance does not move, in one sentence; 1 when somebody has to do something',
  parameters: ['ID'],
  options: OPTIONS,
  async run(call) {
    const { options, terminal } = call
    const id = await idOf(call)
    const { server, path } = await open(call)
    const found = await server.get(`${path}/${id}/explanation`, Explanation)
    const { sentence, severity, evidence, suggestions } = found
    if (options.has('json')) terminal.json(found)
    else
      terminal.print(
        clean(sentence),
        ...titled(
          'What it rests on',
          evidence.map(({ text }) => text)
        ),
        ...titled(
          'What to do',
          suggestions.map(({ text, target }) =>
            target === undefined ? text : `${text}: ${target}`
          )
        )
      )
    return severity === 'problem' ? EXIT.found : EXIT.ok
  }
}

const watch: Command = {
  summary: 'Steps of one instance as they come, until it ends; without an ID how many rest where',
  parameters: ['[ID]'],
  options: { ...UTC, ...OPTIONS },
  async run(call) {
    const id = call.parameters['ID'] === undefined ? undefined : await idOf(call)
    const { server, path } = await open(call)
    return untilInterrupted(call, () =>
      id === undefined ? watchCounts(call, server, path) : watchOne(call, server, `${path}/${id}`)
    )
  }
}

const replay: Command = {
  summary: 'Fold the recorded events through today’s machine, and compare; 1 when they differ',
  parameters: ['ID'],
  options: OPTIONS,
  async run(call) {
    const { options, terminal } = call
    const id = await idOf(call)
    const { server, path } = await open(call)
    const result = await server.get(`${path}/${id}/replay`, Replay)
    const { consistent, steps, state, firstDifference: first } = result
    if (options.has('json')) terminal.json(result)
    else if (consistent) terminal.print(`${steps} steps replay as recorded, to ${clean(state)}`)
    else if (first)
      terminal.print(
        `Step ${first.sequence} differs in ${clean(first.what)}`,
        ...pairs([
          ['recorded', JSON.stringify(first.recorded)],
          ['replayed', JSON.stringify(first.replayed)]
        ])
      )
    else terminal.print(`Differs: ${steps} steps replay to ${clean(state)}`)
    return consistent ? EXIT.ok : EXIT.found
  }
}

const retry: Command = {
  summary: 'Send once more the commands whose answers an instance waits for',
  parameters: ['ID'],
  options: { why: { value: 'TEXT', help: 'for those who read the history' }, ...OPTIONS },
  async run(call) {
    const { options, terminal } = call
    const id = await idOf(call)
    const why = options.text('why')
    const { server, path } = await open(call)
    const retried = await server.post(`${path}/${id}/retry`, Retried, undefined, { why })
    if (options.has('json')) terminal.json(retried)
    else
      terminal.print(
        `In ${clean(retried.state)}; sent ${clean(retried.sent.map(({ type }) => type).join(', '))}`
      )
    return EXIT.ok
  }
}

const exportAll: Command = {
  summary: 'Instances with their whole histories, one JSON object a line',
  options: {
    state: { value: 'STATE', help: 'in this state, or in any inside it' },
    since: {
      value: 'TIME',
      help: 'that moved at this time or later, such as 2026-11-28T09:00:00Z'
    },
    limit: { value: 'N', help: 'how many at most; all when not given' },
    ...OPTIONS
  },
  async run(call) {
    const { options, terminal } = call
    const { server, path } = await open(call)
    const query = {
      state: options.text('state'),
      since: options.text('since'),
      limit: options.integer('limit', 1, 999_999_999)
    }
    for await (const line of server.lines(`${path}/export`, 'application/x-ndjson', query))
      await terminal.jsonLine(line)
    return EXIT.ok
  }
}

export const group: Group = { list, show, explain, watch, replay, retry, export: exportAll }

/** Where the instances are: of the saga that is named, or of the only one. */
async function open(call: Call): Promise<{ server: Server; path: string }> {
  const server = new Server(call)
  const named = call.options.text('saga')
  if (named !== undefined) return { server, path: `/sagas/${encodeURIComponent(named)}` }
  const { items } = await server.get('/sagas/definitions', Definitions).catch((error: Error) => {
    if (error instanceof NotDone) throw new NotDone('The server has no sagas')
    throw error
  })
  const [only] = items
  if (items.length === 1 && only) return { server, path: `/sagas/${encodeURIComponent(only.name)}` }
  throw new WrongUsage(`which saga? Expected --saga ${items.map(({ name }) => name).join(' or ')}`)
}

/**
 * The UUID of what is named, which any text has: no text is taken for a part of the path.
 * @throws WrongUsage when it cannot be an instance's
 */
async function idOf({ parameters }: Call): Promise<string> {
  const id = parameters['ID']!
  if (id === '')
    throw new WrongUsage('the id is empty; expected a UUID, or the text that messages call it')
  if (UUID.test(id)) return id.toLowerCase()
  // All of the library: what a UUID need not wait for, half of the command's time.
  const { idOfKey } = await import('../index.ts')
  return idOfKey(id)
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i

async function watchOne(call: Call, server: Server, path: string): Promise<Exit> {
  const { options, terminal } = call
  for (let known = 0; ; await pause(LOOK_MS, undefined, { signal: terminal.interrupted })) {
    const one = await server.get(path, Detail)
    const steps = one.history.filter(({ sequence }) => sequence > known)
    known = Math.max(known, ...steps.map(({ sequence }) => sequence))
    for (const step of steps)
      if (options.has('json')) await terminal.jsonLine(JSON.stringify(step))
      else terminal.print(`${time(step.at, options.has('utc'))}  ${sentenceOf(step)}`)
    if (one.waitingFor !== null) continue
    if (!options.has('json')) terminal.print(`Ended in ${clean(one.state)}`)
    return EXIT.ok
  }
}

async function watchCounts(
  { options, terminal }: Call,
  server: Server,
  path: string
): Promise<Exit> {
  for (let last = ''; ; await pause(LOOK_MS, undefined, { signal: terminal.interrupted })) {
    const { stuck, byState } = await server.get(`${path}/summary`, Counts)
    const line = options.has('json')
      ? JSON.stringify({ stuck, byState })
      : [...Object.entries(byState), ['stuck', stuck] as const]
          .map(([state, count]) => `${clean(state)} ${count}`)
          .join('  ')
    if (line === last) continue
    last = line
    const now = time(new Date().toISOString(), options.has('utc'))
    await (options.has('json') ? terminal.jsonLine(line) : terminal.print(`${now}  ${line}`))
  }
}

function describe(one: Static<typeof Detail>, utc: boolean, width: number): string[] {
  const { waitingFor: waits } = one
  const context = JSON.stringify(one.context)
  return [
    `${clean(one.key ?? one.sagaId)}  ${clean(one.state)}`,
    '',
    ...pairs([
      ['saga id', one.key === undefined ? undefined : one.sagaId],
      ['created', time(one.createdAt, utc)],
      ['updated', time(one.updatedAt, utc)],
      ['steps', `${one.version}, machine version ${one.machineVersion}`],
      ['stuck since', one.stuckSince && time(one.stuckSince, utc)],
      ['waits for', waits?.events.join(', ')],
      ['waits since', waits && time(waits.since, utc)],
      ['asked', waits && waits.commands.length > 0 ? asked(waits) : undefined],
      ['last error', waits?.lastError?.message],
      ['timers', joined(one.timers.map((timer) => `${timer.event} at ${time(timer.dueAt, utc)}`))],
      ['deferred', joined(one.deferred.map(({ event }) => event))],
      ['accepts', joined(one.accepts)],
      [
        'context',
        context.length > CONTEXT_SHOWN
          ? `${context.slice(0, CONTEXT_SHOWN)}… (--json has all)`
          : context
      ]
    ]),
    '',
    ...table(
      one.history,
      [
        { title: '#', of: (step: Static<typeof Step>) => step.sequence, right: true },
        { title: 'AFTER', of: (step) => after(one.createdAt, step.at), right: true },
        { title: 'EVENT', of: (step) => step.event, shrinks: true },
        { title: 'STATE', of: (step) => step.to, shrinks: true },
        { title: 'SENT', of: (step) => sentOrNote(step), shrinks: true }
      ],
      width
    ),
    ...(one.historyBefore === null
      ? []
      : ['', `There are earlier steps: --before ${one.historyBefore}`])
  ]
}

function titled(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', title, ...lines.map((line) => `  ${clean(line)}`)]
}

function asked({ commands, attempts }: { commands: string[]; attempts: number }): string {
  return `${commands.join(', ')}, ${attempts} times`
}

function joined(texts: readonly string[]): string | undefined {
  return texts.length > 0 ? texts.join(', ') : undefined
}

function sentOrNote({ sent, note }: Static<typeof Step>): string {
  return [...sent.map(({ type }) => type), ...(note === null ? [] : [note])].join(', ')
}

function sentenceOf(step: Static<typeof Step>): string {
  const { sequence, event, from, to } = step
  const rest = sentOrNote(step)
  return clean(`${sequence} ${event}: ${from ?? '-'} -> ${to}${rest ? `  ${rest}` : ''}`)
}

/** Since an instance was created. */
function after(createdAt: string, at: string): string {
  return age(Math.max(0, (Date.parse(at) - Date.parse(createdAt)) / 1000))
}

function since(moment: string): string {
  return age(Math.max(0, (Date.now() - Date.parse(moment)) / 1000))
}

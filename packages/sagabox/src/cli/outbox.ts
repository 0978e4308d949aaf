import Type, { type Static } from 'typebox'
import { EXIT, WrongUsage, type Command, type Group } from './command.ts'
import { more, PAGE_OPTIONS, partOf, readList } from './pages.ts'
import { Server, SERVER_OPTIONS } from './server.ts'
import { SERVICE_OPTION, serviceOf } from './service-of.ts'
import { age, clean, table, time } from './text.ts'

const Maybe = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const Row = Type.Object({
  id: Type.String(),
  messageId: Type.String(),
  destination: Type.String(),
  reason: Maybe(Type.String()),
  putOff: Type.String(),
  attempts: Type.Integer(),
  createdAt: Type.String()
})
const Status = Type.Object({
  pending: Type.Integer(),
  atLeast: Type.Boolean(),
  postponed: Type.Integer(),
  oldestAgeSeconds: Type.Number(),
  lastError: Maybe(Type.String())
})
const Discarded = Type.Object({ id: Type.String(), messageId: Type.String() })

const OPTIONS = { ...SERVICE_OPTION, ...SERVER_OPTIONS }

const list: Command = {
  summary: 'Messages that no queue takes, oldest first; 1 when there are any',
  options: {
    destination: { value: 'NAME', help: 'an exchange' },
    ...PAGE_OPTIONS,
    utc: { help: 'times in UTC instead of this machine’s zone' },
    ...OPTIONS
  },
  async run(call) {
    const { options, terminal } = call
    const part = partOf(call)
    const server = new Server(call)
    const path = `/ops/${await serviceOf(call, server)}/outbox`
    const status = await server.get(path, Status)
    const query = { destination: options.text('destination') }
    const rows = await readList(server, `${path}/rows`, Row, query, part)
    if (options.has('json')) terminal.json({ ...status, ...rows })
    else {
      terminal.print(...describe(status))
      if (rows.items.length > 0)
        terminal.print(
          '',
          ...table(
            rows.items,
            [
              { title: 'ID', of: (row: Static<typeof Row>) => row.id, right: true },
              { title: 'SINCE', of: (row) => time(row.createdAt, options.has('utc')) },
              { title: 'TRIES', of: (row) => row.attempts, right: true },
              { title: 'DESTINATION', of: (row) => row.destination, shrinks: true },
              { title: 'REASON', of: (row) => row.reason ?? row.putOff, shrinks: true }
            ],
            terminal.width
          ),
          ...more(rows)
        )
    }
    return rows.items.length > 0 ? EXIT.found : EXIT.ok
  }
}

const discard: Command = {
  summary: 'Give up a message that no queue takes; it can be read for 30 days',
  parameters: ['ID'],
  options: { reason: { value: 'TEXT', help: 'why, for those who read it later' }, ...OPTIONS },
  async run(call) {
    const { options, terminal, parameters } = call
    const id = parameters['ID']!
    const reason = options.text('reason')
    if (!/^[0-9]{1,15}$/.test(id))
      throw new WrongUsage(`${id} is no id here; expected a number, as the list has it`)
    if (reason === undefined) throw new WrongUsage('why? Expected --reason TEXT')
    const server = new Server(call)
    const path = `/ops/${await serviceOf(call, server)}/outbox`
    const discarded = await server.post(`${path}/rows/${id}/discard`, Discarded, { reason })
    if (options.has('json')) terminal.json(discarded)
    else terminal.print(`Message ${clean(discarded.messageId)} is not sent any more`)
    return EXIT.ok
  }
}

export const group: Group = { list, discard }

function describe(status: Static<typeof Status>): string[] {
  const { pending, atLeast, postponed, oldestAgeSeconds, lastError } = status
  if (pending === 0) return ['Nothing waits in the outbox']
  const count = `${atLeast ? 'At least ' : ''}${pending}`
  return [
    `${count} wait, ${postponed} of them not due, the oldest for ${age(oldestAgeSeconds)}`,
    ...(lastError === null ? [] : ['Last error:', `  ${clean(lastError)}`])
  ]
}

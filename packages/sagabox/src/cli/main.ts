#!/usr/bin/env node
// `sagabox`: finds the command that is asked for, and runs it.
import { readArguments } from './arguments.ts'
import {
  EXIT,
  NoAnswer,
  NotDone,
  WrongUsage,
  type Command,
  type Exit,
  type Group
} from './command.ts'
import { helpOf, overview } from './help.ts'
import { nearest } from './nearest.ts'
import { Terminal } from './terminal.ts'
import { cleanLines } from './text.ts'

/** By their first word. Loaded when asked for: none needs what another does. */
const GROUPS: Readonly<Record<string, { summary: string; load: () => Promise<{ group: Group }> }>> =
  {
    dev: {
      summary: 'run your services here, again at each change',
      load: () => import('./dev.ts')
    },
    doctor: {
      summary: 'look for what is wrong with database and broker',
      load: () => import('./doctor.ts')
    },
    topology: {
      summary: 'exchanges, queues and bindings: show, check, apply',
      load: () => import('./topology.ts')
    },
    saga: {
      summary: 'your saga definitions: check, diagram',
      load: () => import('./saga.ts')
    },
    sagas: {
      summary: 'instances: list, show, watch, replay, retry, export',
      load: () => import('./sagas.ts')
    },
    letters: {
      summary: 'dead letters: groups, list, show, retry, watch, delete',
      load: () => import('./letters.ts')
    },
    outbox: {
      summary: 'messages that no queue takes: list, discard',
      load: () => import('./outbox.ts')
    }
  }

const interrupt = new AbortController()
process.once('SIGINT', () => {
  interrupt.abort()
  // Whoever presses it twice means it.
  process.once('SIGINT', () => process.exit(130))
})
// Such as `| head`, which has read enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  throw error
})

process.exitCode = await main(process.argv.slice(2)).catch(explain)

async function main(args: readonly string[]): Promise<Exit> {
  const terminal = new Terminal(process.env, interrupt.signal)
  const [word, ...rest] = args
  if (word === undefined) {
    terminal.note(...overview(GROUPS))
    return EXIT.usage
  }
  if (word === '--help' || word === '-h' || word === 'help') {
    terminal.print(...overview(GROUPS))
    return EXIT.ok
  }
  if (!Object.hasOwn(GROUPS, word)) throw unknown('command', word, Object.keys(GROUPS))
  const { group } = await GROUPS[word]!.load()
  const { name, command, left } = find(word, group, rest)
  if (!command || left.includes('--help')) {
    terminal.print(...helpOf(word, group, name))
    return EXIT.ok
  }
  return command.run({ ...readArguments(left, command), terminal })
}

function find(
  word: string,
  group: Group,
  rest: readonly string[]
): { name: string; command: Command | undefined; left: readonly string[] } {
  if (group['']) return { name: '', command: group[''], left: rest }
  const [name, ...left] = rest
  const names = Object.keys(group)
  if (name === '--help') return { name: '', command: undefined, left }
  if (name === undefined || name.startsWith('-'))
    throw new WrongUsage(`${word} what? Expected one of ${names.join(', ')}`)
  if (!Object.hasOwn(group, name)) throw unknown(`command ${word}`, name, names)
  return { name, command: group[name], left }
}

function unknown(what: string, given: string, names: readonly string[]): WrongUsage {
  const near = nearest(given, names)
  return new WrongUsage(
    `there is no ${what} ${given}; ${near ? `${near} is one` : `expected one of ${names.join(', ')}`}`
  )
}

function explain(error: Error): Exit {
  const [first = '', ...more] = cleanLines(error.message)
  process.stderr.write(`sagabox: ${[first, ...more].join('\n')}\n`)
  if (error instanceof WrongUsage) {
    process.stderr.write('sagabox --help has the commands, and each has a --help of its own\n')
    return EXIT.usage
  }
  if (error instanceof NoAnswer) return EXIT.unreachable
  if (error instanceof NotDone) return EXIT.found
  process.stderr.write(
    `${cleanLines(error.stack ?? '')
      .slice(1)
      .join('\n')}\n`
  )
  return EXIT.unreachable
}

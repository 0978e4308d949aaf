import { readArguments } from './arguments.ts'
import {
  EXIT,
  NotReachable,
  NotDone,
  WrongUsage,
  type Command,
  type Exit,
  type Group
} from './command.ts'
import { helpOf, overview } from './help.ts'
import { nearest } from './nearest.ts'
import type { Terminal } from './terminal.ts'
import { cleanLines } from './text.ts'

/** By their first word. Loaded when asked for: none needs what another does. */
const GROUPS: Readonly<Record<string, { summary: string; load: () => Promise<{ group: Group }> }>> =
  {
    dev: {
      summary: 'run your services here, again at each change',
      load: () => import('./dev.ts')
    },
    migrate: {
      summary: 'run the migrations of your services, or say which would',
      load: () => import('./migrate.ts')
    },
    doctor: {
      summary: 'look for what is wrong with database and broker',
      load: () => import('./doctor.ts')
    },
    topology: {
      summary: 'exchanges and queues: show, check, apply, rights, hand-over, take-over',
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
    console: {
      summary: 'a page for operators, of services that run elsewhere',
      load: () => import('./console.ts')
    },
    keys: {
      summary: 'who may come in: create, list, revoke',
      load: () => import('./keys.ts')
    },
    outbox: {
      summary: 'messages that no queue takes: list, discard',
      load: () => import('./outbox.ts')
    }
  }

/**
 * Finds the command that is asked for, and runs it. What goes wrong is told in a sentence.
 * @param args what stands behind `sagabox`
 */
export async function run(args: readonly string[], terminal: Terminal): Promise<Exit> {
  try {
    return await runCommand(args, terminal)
  } catch (error) {
    return explain(error as Error, terminal)
  }
}

async function runCommand(args: readonly string[], terminal: Terminal): Promise<Exit> {
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

function explain(error: Error, terminal: Terminal): Exit {
  terminal.note(`sagabox: ${cleanLines(error.message).join('\n')}`)
  if (error instanceof WrongUsage) {
    terminal.note('sagabox --help has the commands, and each has a --help of its own')
    return EXIT.usage
  }
  if (error instanceof NotDone) return EXIT.found
  if (!(error instanceof NotReachable)) terminal.note(...cleanLines(error.stack ?? '').slice(1))
  return EXIT.unreachable
}

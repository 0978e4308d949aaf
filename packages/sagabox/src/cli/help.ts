import { COMMON } from './arguments.ts'
import type { Command, Group, Option } from './command.ts'
import { wrapped } from './text.ts'

export const EXIT_CODES =
  'Exit codes: 0 all is well, 1 something was found, 2 wrong usage, 3 not reachable'

/** What `sagabox --help` says. */
export function overview(groups: Readonly<Record<string, { summary: string }>>): string[] {
  return [
    'Usage: sagabox <command> [options]',
    '',
    ...columns(Object.entries(groups).map(([word, { summary }]) => [word, summary])),
    '',
    'sagabox <command> --help says more. Each command takes --json.',
    EXIT_CODES
  ]
}

/** What one command takes, or the commands behind a first word. */
export function helpOf(word: string, group: Group, name: string): string[] {
  const command = group[name]
  if (command) return commandHelp([word, name].filter(Boolean).join(' '), command)
  return [
    ...Object.entries(group).map(([one, { parameters = [] }], index) =>
      [index === 0 ? 'Usage:' : '      ', 'sagabox', word, one, ...parameters].join(' ')
    ),
    '',
    ...columns(Object.entries(group).map(([one, { summary }]) => [one, firstSentence(summary)])),
    '',
    `sagabox ${word} <command> --help says more`
  ]
}

function firstSentence(summary: string): string {
  return summary.split(/[.;] /, 1)[0]!
}

function commandHelp(name: string, { summary, parameters = [], options }: Command): string[] {
  const written = (option: string, { value }: Option) =>
    value === undefined ? `--${option}` : `--${option} ${value}`
  return [
    ['Usage: sagabox', name, ...parameters, '[options]'].join(' '),
    '',
    ...wrapped(summary, WIDTH),
    '',
    ...columns(
      Object.entries({ ...options, ...COMMON }).map(([option, one]) => [
        written(option, one),
        one.help
      ])
    )
  ]
}

/** Where a line of help ends. */
const WIDTH = 80

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.flatMap(([name, text]) =>
    wrapped(text, WIDTH - width - 4).map(
      (line, index) => `  ${(index === 0 ? name : '').padEnd(width)}  ${line}`
    )
  )
}

import { parseArgs } from 'node:util'
import { Options, WrongUsage, type Command, type Option } from './command.ts'
import { nearest } from './nearest.ts'

/** What every command takes. */
export const COMMON: Readonly<Record<string, Option>> = {
  json: { help: 'answer in JSON' },
  help: { help: 'what the command does' }
}

/**
 * Takes apart what stands behind a command.
 * @throws WrongUsage for what the command does not take, with the nearest name that it does
 */
export function readArguments(
  args: readonly string[],
  command: Command
): { parameters: Record<string, string>; options: Options } {
  const known = { ...command.options, ...COMMON }
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      Object.entries(known).map(([name, { value }]) => [
        name,
        { type: value === undefined ? 'boolean' : 'string' } as const
      ])
    ),
    allowPositionals: true,
    strict: false,
    tokens: true
  })
  const values = new Map<string, string | true>()
  const given: string[] = []
  for (const token of tokens) {
    if (token.kind === 'positional') given.push(token.value)
    if (token.kind === 'option') values.set(token.name, valueOf(token, known, values))
  }
  return { parameters: parametersOf(given, command.parameters ?? []), options: new Options(values) }
}

interface OptionToken {
  name: string
  rawName: string
  value: string | undefined
  inlineValue: boolean | undefined
}

function valueOf(
  { name, rawName, value, inlineValue }: OptionToken,
  known: Readonly<Record<string, Option>>,
  before: ReadonlyMap<string, unknown>
): string | true {
  const option = Object.hasOwn(known, name) && rawName.startsWith('--') ? known[name] : undefined
  if (!option) {
    const near = nearest(name, Object.keys(known))
    throw new WrongUsage(`there is no option ${rawName}${near ? `; --${near} is one` : ''}`)
  }
  if (before.has(name)) throw new WrongUsage(`--${name} is given twice; expected it once`)
  if (option.value === undefined) {
    if (value === undefined) return true
    throw new WrongUsage(`--${name} takes no value, and was given ${value}`)
  }
  if (value === undefined || value === '')
    throw new WrongUsage(`--${name} is given without a value; expected --${name} ${option.value}`)
  if (!inlineValue && value.startsWith('-'))
    throw new WrongUsage(`--${name} is followed by ${value}; if that is meant: --${name}=${value}`)
  return value
}

function parametersOf(
  given: readonly string[],
  expected: readonly string[]
): Record<string, string> {
  if (given.length > expected.length)
    throw new WrongUsage(
      `${given[expected.length]} was not expected${expected.length > 0 ? `: it takes ${expected.join(' ')}` : ''}`
    )
  const missing = expected[given.length]
  if (missing !== undefined && !missing.startsWith('['))
    throw new WrongUsage(`${missing} is missing`)
  return Object.fromEntries(
    given.map((value, index) => [expected[index]!.replaceAll(/[[\]]/g, ''), value])
  )
}

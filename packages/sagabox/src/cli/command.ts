import { SagaboxError } from '../messaging/errors/sagabox-error.ts'
import type { Terminal } from './terminal.ts'

/** What a command ends with, whatever it does. */
export const EXIT = { ok: 0, found: 1, usage: 2, unreachable: 3 } as const
export type Exit = (typeof EXIT)[keyof typeof EXIT]

export interface Option {
  /** What stands behind it in the help, such as `N`; without it the option takes no value. */
  value?: string
  help: string
}

/** One command, such as `sagas list`. */
export interface Command {
  summary: string
  /** What it takes besides options, in their order; `[ID]` may be left out. */
  parameters?: readonly string[]
  options?: Readonly<Record<string, Option>>
  run(call: Call): Promise<Exit>
}

/** The commands behind one first word; the command '' is that word alone. */
export type Group = Readonly<Record<string, Command>>

/** What was asked, taken apart. */
export interface Call {
  /** By the parameters' names, without brackets. */
  parameters: Readonly<Record<string, string | undefined>>
  options: Options
  terminal: Terminal
}

export class Options {
  readonly #values: ReadonlyMap<string, string | true>

  constructor(values: ReadonlyMap<string, string | true>) {
    this.#values = values
  }

  has(name: string): boolean {
    return this.#values.has(name)
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name)
    return typeof value === 'string' ? value : undefined
  }

  /** @throws WrongUsage when it is no whole number of this range */
  integer(name: string, least: number, most: number): number | undefined {
    const text = this.text(name)
    if (text === undefined) return undefined
    const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN
    if (value >= least && value <= most) return value
    throw new WrongUsage(`--${name} is ${text}; expected a whole number from ${least} to ${most}`)
  }
}

/** The command line means nothing: exit code 2. */
export class WrongUsage extends SagaboxError {
  override readonly name = 'WrongUsage'
  override readonly code = 'WRONG_USAGE'
}

/** Who was asked cannot be reached, or does not answer as expected: exit code 3. */
export class NotReachable extends SagaboxError {
  override readonly name = 'NotReachable'
  override readonly code = 'NOT_REACHABLE'
}

/** What was asked for is not there, or cannot be done as things are: exit code 1. */
export class NotDone extends SagaboxError {
  override readonly name = 'NotDone'
  override readonly code = 'NOT_DONE'
}

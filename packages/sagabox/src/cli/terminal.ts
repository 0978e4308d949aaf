import { once } from 'node:events'
import type { Writable } from 'node:stream'
import type { WriteStream } from 'node:tty'
import { safeJson } from './text.ts'

/** Columns, where nobody says how wide it is. */
const WIDTH = 80

export interface TerminalOptions {
  environment: Readonly<Record<string, string | undefined>>
  /** Ends what goes on until it is ended. */
  interrupted: AbortSignal
  out?: Writable
  err?: Writable
}

/** Where a command reads its surroundings and writes what it found. */
export class Terminal {
  readonly interrupted: AbortSignal
  readonly #environment: Readonly<Record<string, string | undefined>>
  readonly #out: Writable
  readonly #err: Writable

  constructor({
    environment,
    interrupted,
    out = process.stdout,
    err = process.stderr
  }: TerminalOptions) {
    this.#environment = environment
    this.interrupted = interrupted
    this.#out = out
    this.#err = err
  }

  /** An environment variable; an empty one is none. */
  setting(name: string): string | undefined {
    return this.#environment[name] || undefined
  }

  get width(): number {
    return Math.max(40, (this.#out as Partial<WriteStream>).columns ?? WIDTH)
  }

  /** Lines of what was asked for; text from elsewhere is cleaned before it gets here. */
  print(...lines: string[]): void {
    this.#out.write(lines.map((line) => `${line}\n`).join(''))
  }

  json(value: unknown): void {
    this.print(safeJson(JSON.stringify(value, null, 2)))
  }

  /** One line of a stream of JSON; resolves when there is room for more. */
  async jsonLine(line: string): Promise<void> {
    if (!this.#out.write(`${safeJson(line)}\n`)) await once(this.#out, 'drain')
  }

  /** What is not the answer itself. */
  note(...lines: string[]): void {
    this.#err.write(lines.map((line) => `${line}\n`).join(''))
  }
}

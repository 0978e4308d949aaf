import { once } from 'node:events'
import { safeJson } from './text.ts'

/** Columns, where nobody says how wide it is. */
const WIDTH = 80

/** Where a command reads its surroundings and writes what it found. */
export class Terminal {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Ends what goes on until it is ended. */
  readonly interrupted: AbortSignal

  constructor(environment: Readonly<Record<string, string | undefined>>, interrupted: AbortSignal) {
    this.environment = environment
    this.interrupted = interrupted
  }

  /** An environment variable; an empty one is none. */
  setting(name: string): string | undefined {
    return this.environment[name] || undefined
  }

  get width(): number {
    return Math.max(40, process.stdout.columns ?? WIDTH)
  }

  /** Lines of what was asked for; text from elsewhere is cleaned before it gets here. */
  print(...lines: string[]): void {
    process.stdout.write(lines.map((line) => `${line}\n`).join(''))
  }

  json(value: unknown): void {
    this.print(safeJson(JSON.stringify(value, null, 2)))
  }

  /** One line of a stream of JSON; resolves when there is room for more. */
  async jsonLine(line: string): Promise<void> {
    if (!process.stdout.write(`${safeJson(line)}\n`)) await once(process.stdout, 'drain')
  }

  /** What is not the answer itself. */
  note(...lines: string[]): void {
    process.stderr.write(lines.map((line) => `${line}\n`).join(''))
  }
}

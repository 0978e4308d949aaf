import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { until } from './until.ts'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** What Node is given to run TypeScript. */
export const TYPESCRIPT = `--import=${new URL('../../scripts/typescript.mjs', import.meta.url).href}`

/** Where things are torn down: a test, or a run of faults. */
export interface Scope {
  teardown(cleanup: () => unknown): unknown
}

export interface LogLine {
  level: number
  msg: string
  schema?: string
  reason?: string
}

export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/** The product as people run it, in a process of its own. */
export class Program {
  readonly exited: Promise<Exit>
  /** What it wrote to stderr. */
  errors = ''
  url = ''
  readonly #child: ChildProcess
  readonly #lines: string[] = []
  readonly #listening: Promise<string>

  /** @param product its folder */
  constructor(scope: Scope, env: Record<string, string>, args: readonly string[], product = ROOT) {
    const { PATH, HOME, TMPDIR } = process.env
    const inherited = Object.fromEntries(
      Object.entries({ PATH, HOME, TMPDIR }).filter(([, value]) => value !== undefined)
    )
    this.#child = spawn(
      process.execPath,
      ['--enable-source-maps', join(product, 'dist/main.js'), ...args],
      {
        cwd: ROOT,
        env: { ...inherited, PORT: '0', LOG_LEVEL: 'info', ...env },
        stdio: ['ignore', 'pipe', 'pipe']
      }
    )
    this.exited = once(this.#child, 'close').then(([code, signal]) => ({ code, signal }))
    this.#child.stderr!.on('data', (data) => (this.errors += data))
    this.#listening = new Promise((resolve, reject) => {
      createInterface(this.#child.stdout!).on('line', (line) => {
        this.#lines.push(line)
        const [, url] = /Server listening at (http:[^"]+)/.exec(line) ?? []
        if (url) resolve(url)
      })
      void this.exited.then(({ code, signal }) =>
        reject(new Error(`Ended with ${code ?? signal} before it listened:\n${this.lastWords}`))
      )
    })
    this.#listening.catch(() => {})
    scope.teardown(() => this.kill())
  }

  /** Starts it and waits until it listens. */
  static async start(
    scope: Scope,
    env: Record<string, string>,
    ...args: string[]
  ): Promise<Program> {
    const program = new Program(scope, env, args)
    await program.listening()
    return program
  }

  /** Resolves when it listens; rejects when it ends before that. */
  async listening(): Promise<void> {
    this.url = await this.#listening
  }

  ready(): Promise<unknown> {
    return until(
      'the program is ready',
      async () => (await fetch(`${this.url}/health/ready`)).status === 200,
      { tell: () => this.lastWords }
    )
  }

  logged(which: (line: LogLine) => boolean): LogLine[] {
    return this.#lines
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as LogLine)
      .filter(which)
  }

  get lastWords(): string {
    return `${this.#lines.slice(-20).join('\n')}\n${this.errors}`
  }

  send(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async kill(): Promise<void> {
    this.send('SIGKILL')
    await this.exited
  }

  async stop(signal: NodeJS.Signals) {
    const began = Date.now()
    this.send(signal)
    return { ...(await this.exited), ms: Date.now() - began }
  }
}

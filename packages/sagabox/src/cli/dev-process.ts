// What `sagabox dev` runs, and ends at each change: the user's services.
import { once } from 'node:events'
import { startSagabox } from '../index.ts'
import { loadApp } from './app-module.ts'
import type { DevOptions } from './dev.ts'
import { cleanLines, safeJson } from './text.ts'

const [file] = process.argv.slice(2) as [string]
const [options] = (await once(process, 'message')) as [DevOptions]
const { port, databaseUrl, json } = options

let stop: (() => Promise<void>) | undefined
let asked = false
const end = () => {
  asked = true
  if (stop) void stop().finally(() => process.exit(0))
}
// Ctrl-C reaches it, too; the command says when.
process.on('SIGINT', () => {})
process.on('SIGTERM', end)
// The command is gone: nobody would end this process.
process.on('disconnect', end)

try {
  const { services, system, running } = await loadApp(file)
  if (services.length === 0 && !running)
    throw new Error(
      `${file} exports neither services nor what startSagabox answered; expected export const services = [defineService(…), …]`
    )
  const app =
    running ??
    (await startSagabox({ services, system, databaseUrl, port, signals: false }).catch(explain))
  stop = () => app.stop()
  if (asked) end()
  else
    say(
      app.url,
      services.map(({ name }) => name)
    )
} catch (error) {
  console.error(`${cleanLines((error as Error).message).join('\n')}\nWaiting for a change`)
  process.exit(1)
}

function explain(error: NodeJS.ErrnoException): never {
  if (error.code !== 'EADDRINUSE') throw error
  throw new Error(`Port ${port} is taken; expected a free one: --port N, or --port 0 for any`, {
    cause: error
  })
}

function say(url: string, services: readonly string[]): void {
  if (json) return console.log(safeJson(JSON.stringify({ url, docs: `${url}/docs`, services })))
  console.log(
    [
      '',
      `  Address   ${url}`,
      `  API docs  ${url}/docs`,
      ...(services.length > 0 ? [`  Services  ${services.join(', ')}`] : []),
      '',
      '  Ctrl-C stops it; a change starts it again.',
      ''
    ].join('\n')
  )
}

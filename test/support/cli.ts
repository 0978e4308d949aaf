import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { ROOT } from './program.ts'

const MAIN = join(ROOT, 'packages/sagabox/dist/cli/main.js')

export interface Ran {
  code: number | null
  out: string
  err: string
}

export interface RunningCommand {
  /** What it has written to stdout until now. */
  out(): string
  err(): string
  send(signal: NodeJS.Signals): void
  ended: Promise<Ran>
}

/** Starts `sagabox …` as users do: the build, in a process of its own, and no colours to speak of. */
export function startCommand(
  args: readonly string[],
  env: Record<string, string | undefined> = {},
  cwd = ROOT
): RunningCommand {
  const { PATH, HOME, TMPDIR } = process.env
  const child = spawn(process.execPath, [MAIN, ...args], {
    cwd,
    env: { PATH, HOME, TMPDIR, TZ: 'Europe/Amsterdam', ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => (out += String(chunk)))
  child.stderr.on('data', (chunk) => (err += String(chunk)))
  return {
    out: () => out,
    err: () => err,
    send: (signal) => child.kill(signal),
    ended: once(child, 'close').then(([code]) => ({ code, out, err }))
  }
}

export function runCommand(
  args: readonly string[],
  env?: Record<string, string | undefined>,
  cwd?: string
): Promise<Ran> {
  return startCommand(args, env, cwd).ended
}

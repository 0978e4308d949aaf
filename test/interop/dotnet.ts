import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { ROOT, type Scope } from '../support/program.ts'
import { until } from '../support/until.ts'

const FOLDER = join(ROOT, 'interop')
/** What dotnet is told everywhere: no telemetry, no greeting, no servers that stay behind. */
const QUIET = {
  DOTNET_CLI_TELEMETRY_OPTOUT: '1',
  DOTNET_NOLOGO: '1',
  MSBUILDDISABLENODEREUSE: '1'
}

/** Is there a .NET SDK on the path? */
export function hasDotnet(): boolean {
  return spawnSync('dotnet', ['--version'], { env: { ...process.env, ...QUIET } }).status === 0
}

/**
 * Restores and builds interop/.
 * @param massTransit another version than that of interop/Interop.csproj
 * @throws Error with what the compiler said
 */
export function buildDotnet(massTransit = process.env['MASSTRANSIT_VERSION']): void {
  const version = massTransit ? [`-p:MassTransitVersion=${massTransit}`] : []
  const { status, stdout, stderr } = spawnSync(
    'dotnet',
    ['build', '-c', 'Release', '-nodeReuse:false', ...version],
    { cwd: FOLDER, env: { ...process.env, ...QUIET }, encoding: 'utf8' }
  )
  if (status !== 0) throw new Error(`interop/ cannot be built:\n${stdout}${stderr}`)
}

/** A .NET program of interop/ in a process of its own. */
export class DotnetProgram {
  readonly side = 'dotnet'
  url = ''
  readonly #child: ChildProcess
  readonly #exited: Promise<unknown>
  readonly #lines: string[] = []

  private constructor(scope: Scope, name: string, env: Record<string, string>) {
    const { PATH, HOME, TMPDIR } = process.env
    this.#child = spawn(
      'dotnet',
      [join(FOLDER, 'bin/Release/net10.0/Interop.dll'), name, '--urls', 'http://127.0.0.1:0'],
      {
        cwd: FOLDER,
        env: { PATH, HOME, TMPDIR, ...QUIET, ...env },
        stdio: ['ignore', 'pipe', 'pipe']
      }
    )
    this.#exited = once(this.#child, 'close')
    for (const stream of [this.#child.stdout!, this.#child.stderr!])
      createInterface(stream).on('line', (line) => {
        this.#lines.push(line)
        this.url ||= /Now listening on: (http:\S+)/.exec(line)?.[1] ?? ''
      })
    scope.teardown(() => this.kill())
  }

  /** Starts it and waits until its bus is connected and its queues are declared. */
  static async start(
    scope: Scope,
    name: string,
    env: Record<string, string>
  ): Promise<DotnetProgram> {
    const program = new DotnetProgram(scope, name, env)
    await until(
      `${name} by .NET is ready`,
      async () => {
        if (program.#child.exitCode !== null) throw new Error(`It ended:\n${program.lastWords}`)
        if (program.url === '') return false
        return (await fetch(`${program.url}/health/ready`).catch(() => undefined))?.status === 200
      },
      { tell: () => program.lastWords }
    )
    return program
  }

  get lastWords(): string {
    return this.#lines.slice(-40).join('\n')
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL')
    await this.#exited
  }

  /** As an operator does: what it works on is finished. */
  async stop(): Promise<void> {
    this.#child.kill('SIGTERM')
    await this.#exited
  }
}

import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import { pino } from 'pino'
import { Access } from '../access/access.ts'
import { guard } from '../access/guard.ts'
import type { ConsoleOptions } from '../console/routes.ts'
import { buildApp, type AppOptions } from '../http/app.ts'
import { healthRoutes } from '../http/operations.ts'
import type { Log } from '../messaging/async/log.ts'
import { loggerOf } from './logger.ts'
import { registerConsole } from './system.ts'

/** A console by itself, for services that all run elsewhere. */
export interface OwnConsoleOptions extends ConsoleOptions {
  readonly services: Readonly<Record<string, string>>
  /** To listen on; `127.0.0.1` when not given. */
  readonly host?: string
  /** 0, any free one, when not given. */
  readonly port?: number
  /** Who may come in; everybody when not given, which is refused where others can reach `host`. */
  readonly access?: Access
  /** See AppOptions. */
  readonly app?: Omit<AppOptions, 'guard'>
  /** As in SagaboxOptions. */
  readonly log?: Log
}

/** A console that runs. */
export interface OwnConsole {
  /** `http://address:port/console/` */
  readonly url: string
  stop(): Promise<void>
}

/**
 * Starts the operators' console alone: it has no services and no database.
 * @throws CannotStart when others can reach it and nobody is asked who they are
 */
export async function startConsole({
  host = '127.0.0.1',
  port = 0,
  access: admitted,
  app: options = {},
  log: given,
  ...console
}: OwnConsoleOptions): Promise<OwnConsole> {
  const log = loggerOf(given ?? pino({ level: 'warn' }))
  const { publicUrl, corsOrigins } = options
  const access = admitted ?? (await Access.open({ publicUrl }, [host], log))
  const app: FastifyInstance = await buildApp(
    log,
    (root) => {
      registerConsole(root, [], access, console, publicUrl)
      root.register(healthRoutes([]))
      root.get('/', { schema: { permission: 'public', hide: true } }, (_request, reply) =>
        reply.redirect('console/')
      )
    },
    {
      ...options,
      hasDocs: false,
      guard: (root) => guard(root, access, { publicUrl, corsOrigins })
    }
  )
  app.addHook('onClose', async () => access.close())
  await app.listen({ host, port })
  const { port: taken } = app.server.address() as AddressInfo
  const scheme = options.tls ? 'https' : 'http'
  const shown = host === '0.0.0.0' || host === '::' ? 'localhost' : host
  return {
    url: `${scheme}://${shown.includes(':') ? `[${shown}]` : shown}:${taken}/console/`,
    stop: () => app.close()
  }
}

import type { FastifyBaseLogger } from 'fastify'
import type { Log } from '../messaging/async/log.ts'

/** A logger as fastify needs it, made of one that can do less. Pino, and what extends it, stays. */
export function loggerOf(log: Log): FastifyBaseLogger {
  return isWhole(log) ? log : wrapped(log, {})
}

function isWhole(log: Log): log is Log & FastifyBaseLogger {
  return ['child', 'fatal', 'trace'].every(
    (name) => typeof (log as unknown as Record<string, unknown>)[name] === 'function'
  )
}

function wrapped(log: Log, bindings: object): FastifyBaseLogger {
  const at =
    (level: keyof Log) =>
    (details: unknown, message?: string): void =>
      typeof details === 'string'
        ? log[level]({ ...bindings }, details)
        : log[level]({ ...bindings, ...(details as object) }, message ?? '')
  const nothing = () => {}
  return {
    level: 'info',
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('error'),
    trace: nothing,
    silent: nothing,
    child: (more: object) => wrapped(log, { ...bindings, ...more })
  } as FastifyBaseLogger
}

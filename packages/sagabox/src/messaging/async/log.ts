import { loggedError } from '../errors/describe.ts'

/** What the library needs of a logger; pino and fastify's logger fit. */
export interface Log {
  debug(details: object, message: string): void
  info(details: object, message: string): void
  warn(details: object, message: string): void
  error(details: object, message: string): void
}

/**
 * A log whose `err` may be anything that somebody threw: it is described first, so that no line can
 * fail or carry a whole client.
 */
export function describing(log: Log): Log {
  const safe = (details: object) =>
    'err' in details ? { ...details, err: loggedError(details.err) } : details
  return changing(log, safe)
}

/** A log whose details are changed before they are written. */
export function changing(log: Log, changed: (details: object) => object): Log {
  return {
    debug: (details, message) => log.debug(changed(details), message),
    info: (details, message) => log.info(changed(details), message),
    warn: (details, message) => log.warn(changed(details), message),
    error: (details, message) => log.error(changed(details), message)
  }
}

const nothing = () => {}

export const SILENT: Log = { debug: nothing, info: nothing, warn: nothing, error: nothing }

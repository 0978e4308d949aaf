import { once } from 'node:events'
import { createServer } from 'node:net'
import { ConfigError } from './config.ts'

/**
 * Listens for a moment, before anything else is begun: an address that cannot be had is no reason
 * to create a database.
 * @throws ConfigError naming HOST or PORT
 */
export async function checkListenAddress(host: string, port: number): Promise<void> {
  const server = createServer()
  try {
    await once(server.listen({ host, port }), 'listening')
  } catch (error) {
    throw cannotListen(host, port, error as NodeJS.ErrnoException)
  }
  await once(server.close(), 'close')
}

/** What a failure to listen means, or the error itself when it means something else. */
export function cannotListen(host: string, port: number, error: NodeJS.ErrnoException): Error {
  switch (error.code ?? '') {
    case 'EADDRINUSE':
      return new ConfigError(
        `PORT: ${port} on ${host} is taken by another program; expected a free port`
      )
    case 'EACCES':
    case 'EPERM':
      return new ConfigError(
        `PORT: this user may not listen on ${port} (${error.code}); expected a port from 1024 up, or 0 for any free one`
      )
    case 'EADDRNOTAVAIL':
    case 'EAFNOSUPPORT':
    case 'EINVAL':
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
    case 'EAI_FAIL':
      return new ConfigError(
        `HOST: expected an address of this machine, such as 127.0.0.1 or 0.0.0.0, got ${JSON.stringify(host)} (${error.code})` +
          (/conda|-linux-|-apple-/.test(host)
            ? '. Conda sets HOST for its compilers: give an address, HOST=127.0.0.1 npm start'
            : '')
      )
    default:
      return error
  }
}

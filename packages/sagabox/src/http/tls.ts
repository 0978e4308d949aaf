import { unwatchFile, watchFile } from 'node:fs'
import type { Server } from 'node:https'
import { createSecureContext } from 'node:tls'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import { InvalidTls, readPem } from '../messaging/errors/invalid-tls.ts'

/** How often it is looked whether a file has changed, ms. */
const LOOK_MS = 1000

/** Files in PEM format, read again when they change. */
export interface ServerTls {
  /** The certificate, and those between it and its authority. */
  readonly certFile: string
  readonly keyFile: string
}

export interface CertifiedKey {
  cert: string
  key: string
}

/** @throws InvalidTls when a file cannot be read, or they do not belong together */
export function readCertifiedKey({ certFile, keyFile }: ServerTls): CertifiedKey {
  const read = {
    cert: readPem('HTTPS_CERT_FILE', certFile),
    key: readPem('HTTPS_KEY_FILE', keyFile)
  }
  try {
    createSecureContext(read)
  } catch (error) {
    throw new InvalidTls(
      `HTTPS_CERT_FILE, HTTPS_KEY_FILE: they cannot be used (${(error as Error).message}); expected a certificate and the key that belongs to it`,
      { cause: error }
    )
  }
  return read
}

/**
 * Has new connections use what the files hold from then on. What cannot be used, such as a new
 * certificate whose key is still to come, changes nothing, and is logged.
 */
export function followFiles(app: FastifyInstance, files: ServerTls, log: FastifyBaseLogger): void {
  const server = app.server as unknown as Server
  const changed = () => {
    try {
      server.setSecureContext(readCertifiedKey(files))
      log.info({ file: files.certFile }, 'The certificate was read again')
    } catch (error) {
      log.error(
        { reason: (error as Error).message },
        'The certificate cannot be read again; the one before is used on'
      )
    }
  }
  const paths = [files.certFile, files.keyFile]
  for (const path of paths) watchFile(path, { interval: LOOK_MS, persistent: false }, changed)
  app.addHook('onClose', async () => {
    for (const path of paths) unwatchFile(path, changed)
  })
}

import { readFileSync } from 'node:fs'
import { SagaboxError } from './sagabox-error.ts'

/** Certificates or keys that cannot be used; the message names the setting and its file. */
export class InvalidTls extends SagaboxError {
  override readonly name = 'InvalidTls'
  override readonly code = 'INVALID_TLS'
}

/**
 * Reads a certificate or a key.
 * @param setting by whose name the error calls it
 * @throws InvalidTls when it cannot be read or is not in PEM format; it shows nothing of the content
 */
export function readPem(setting: string, file: string): string {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new InvalidTls(
      `${setting}: ${file} cannot be read (${code}); expected a file in PEM format`,
      { cause: error }
    )
  }
  if (text.includes('-----BEGIN ')) return text
  throw new InvalidTls(`${setting}: ${file} is not in PEM format; expected -----BEGIN … in it`)
}

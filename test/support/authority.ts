// A certificate authority that lives as long as a test.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

export interface Certificate {
  certFile: string
  keyFile: string
}

export interface Authority {
  caFile: string
  /** @param names such as `DNS:localhost` or `IP:127.0.0.1`, that the certificate is for */
  issue(name: string, names: string): Certificate
}

/** Made by the program openssl. */
export function newAuthority(t: Test): Authority {
  const folder = mkdtempSync(join(tmpdir(), 'sagabox-authority-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const openssl = (...args: string[]) =>
    execFileSync('openssl', args, { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] })
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  openssl(
    'req',
    '-x509',
    ...newKey,
    '-keyout',
    'ca.key',
    '-out',
    'ca.pem',
    '-days',
    '2',
    '-subj',
    '/CN=Test'
  )
  return {
    caFile: join(folder, 'ca.pem'),
    issue(name, names) {
      openssl(
        'req',
        ...newKey,
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.csr`,
        '-subj',
        `/CN=${name}`
      )
      writeFileSync(join(folder, `${name}.ext`), `subjectAltName=${names}\n`)
      const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '2']
      openssl(
        'x509',
        '-req',
        '-in',
        `${name}.csr`,
        ...signed,
        '-extfile',
        `${name}.ext`,
        '-out',
        `${name}.pem`
      )
      return { certFile: join(folder, `${name}.pem`), keyFile: join(folder, `${name}.key`) }
    }
  }
}

import { codeOf } from '../errors/database-away.ts'
import { UnfitSession } from './server.ts'
import { DatabaseUrlError } from './url.ts'

/**
 * What is wrong for ever, unless somebody does something: by SQLSTATE, code of Node's TLS, or pg's
 * own words.
 */
const ADVICE: readonly (readonly [found: RegExp, advice: (setting: string) => string])[] = [
  [
    /no pg_hba\.conf entry.*no encryption/s,
    (setting) =>
      `the server wants TLS: expected sslmode=require in ${setting}, or an entry in its pg_hba.conf`
  ],
  [
    /no pg_hba\.conf entry/,
    (setting) =>
      `expected an entry in the server's pg_hba.conf for this address, or another user or database in ${setting}`
  ],
  [
    /^(28P01|28000)\b/,
    (setting) => `expected a user that may log in, and its password, in ${setting}`
  ],
  [
    /client password must be a string|no password supplied/,
    (setting) => `the server asks for a password: expected one in ${setting}, or in PGPASSWORD`
  ],
  [
    /^3D000\b/,
    (setting) =>
      `expected a database that is there: create it ("create database … encoding 'UTF8'"), or correct ${setting}`
  ],
  [
    /does not support SSL/,
    (setting) =>
      `expected sslmode=disable in ${setting} (and PGSSLMODE not set), or TLS switched on in the server`
  ],
  [
    /^(SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED_CERT|UNABLE_TO_)/,
    (setting) =>
      `the certificate's issuer is not known here: expected sslmode=verify-full&sslrootcert=/path/to/ca.pem in ${setting}; sslmode=no-verify would trust anybody`
  ],
  [/^CERT_HAS_EXPIRED\b/, () => 'expected a certificate of the server that is valid today'],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID\b/,
    (setting) =>
      `expected the host in ${setting} as the certificate names it, or sslmode=verify-ca with sslrootcert=`
  ],
  [
    /^42501\b/,
    (setting) =>
      `expected a role in ${setting} that may do this, or what it needs made and granted beforehand`
  ],
  [/^(ENOTFOUND|EAI_AGAIN)\b/, (setting) => `expected a host that can be found, in ${setting}`],
  [
    /^53300\b/,
    () =>
      'expected room for the connections of every process: max_connections of the server, or of the role and database'
  ]
]

/**
 * A sentence for an operator: what the database or the way there said, and what was expected of
 * which setting. It never holds the password.
 * @param setting where the URL comes from, such as `DATABASE_URL or ORDER_DATABASE_URL`
 */
export function databaseProblem(error: unknown, setting: string): string {
  const { message, errors } = (error ?? {}) as {
    message?: unknown
    errors?: { message?: string }[]
  }
  // A name with several addresses fails once for each, and says nothing itself.
  const said =
    (typeof message === 'string' && message) ||
    errors?.map((one) => one.message).join('; ') ||
    String(error)
  if (error instanceof DatabaseUrlError) return `${setting}: ${said}`
  if (error instanceof UnfitSession) return `${said} (${setting})`
  const code = codeOf(error) ?? ''
  const advice = ADVICE.find(([found]) => found.test(`${code} ${said}`))?.[1](setting)
  return advice === undefined ? said : `${said}: ${advice}`
}

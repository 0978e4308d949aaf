// Examples of the reference: who may come in. Imports are left out there.
import Fastify from 'fastify'
import assert from 'node:assert/strict'
import {
  Access,
  InvalidKeyFile,
  UnguardedRoute,
  UnknownRole,
  type AccessOptions,
  type Actor,
  type OidcOptions,
  type RoleTable
} from 'sagabox'
import { needPermission, PUBLIC, Unauthorized } from 'sagabox/fastify'

// Example: AccessOptions, OidcOptions, RoleTable
// `auth` of startSagabox: keys of a file, people by a provider, and roles of the application's own.
const roles: RoleTable = { driver: ['parcel:read'], clerk: ['parcel:read', 'parcel:send'] }
const oidc: OidcOptions = { issuer: 'https://login.example.com', audience: 'parcels' }
const auth: AccessOptions = { oidc, roles }
assert.equal(auth.roles, roles)

// Example: Access
// What startSagabox makes of it; System.start is given one. Reachable and open is refused.
const silent = { debug() {}, info() {}, warn() {}, error() {} }
await assert.rejects(Access.open({}, ['0.0.0.0'], silent), { code: 'CANNOT_START' })
const access = await Access.open(auth, ['0.0.0.0'], silent)
assert.equal(access.isOpen, false)

// Example: Actor
/** To whom belongs what a request makes. */
const ownerOf = ({ issuer, subject }: Actor) => `${issuer} ${subject}`
const ada: Actor = { name: 'ada', kind: 'key', roles: ['clerk'], issuer: 'key', subject: 'ada' }
assert.equal(ownerOf(ada), 'key ada')

// Example: InvalidKeyFile, UnknownRole, UnguardedRoute, Unauthorized
// Told by their codes, as all errors of the library.
const codes = [InvalidKeyFile, UnknownRole, UnguardedRoute].map((one) => new one('…').code)
assert.deepEqual(codes, ['INVALID_KEY_FILE', 'UNKNOWN_ROLE', 'UNGUARDED_ROUTE'])
assert.equal(new Unauthorized('This key is not known').status, 401)

// Example: needPermission, PUBLIC
// Routes say what who asks must be allowed to do; for a plugin's routes its scope says it.
const app = Fastify()
app.get('/window', { schema: { permission: PUBLIC } }, () => 'open to everybody')
app.register(async (scope) => {
  needPermission(scope, 'parcel:read')
  scope.get('/parcels', () => [])
})
assert.equal((await app.inject('/window')).statusCode, 200)

// End of examples

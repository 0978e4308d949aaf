// Examples of the reference: who may come in. Imports are left out there.
import Fastify from 'fastify'
import assert from 'node:assert/strict'
import {
  Access,
  brokerRights,
  defineService,
  InvalidKeyFile,
  InvalidTls,
  TopologyMissing,
  UnguardedRoute,
  UnknownRole,
  type AccessOptions,
  type Actor,
  type BrokerRights,
  type BrokerTls,
  type OidcOptions,
  type RoleTable,
  type ServerTls,
  type Tx
} from 'sagabox'
import {
  auditOf,
  needPermission,
  PUBLIC,
  UNAUDITED,
  Unauthorized,
  type Audit,
  type Audited
} from 'sagabox/fastify'

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

// Example: auditOf, Audit, Audited, UNAUDITED
// Handed down by a route, and called in the transaction of what it changes.
const close = (tx: Tx, audit: Audit) => {
  void tx.query('update parcels set closed = true')
  audit(tx)
}
const office = Fastify()
office.post('/close', { schema: { permission: 'parcel:send' } }, (request) => {
  const why: Audited = { reason: 'the courier is ill' }
  return { audited: auditOf(request, why) !== UNAUDITED, close: close.name }
})

// Example: brokerRights, BrokerRights
// The least that the user of a service needs at the broker, where it declares nothing.
const courier = defineService('courier', {})
const rights: BrokerRights = brokerRights([courier], [courier])
assert.equal(rights.configure, '^$')

// Example: ServerTls, BrokerTls
// Files in PEM format, read again when they change.
const https: ServerTls = { certFile: 'parcels.crt', keyFile: 'parcels.key' }
const amqps: BrokerTls = { caFile: 'ca.crt' }
assert.ok(https.certFile && amqps.caFile)

// Example: InvalidTls, TopologyMissing
// Told by their codes.
assert.equal(new InvalidTls('…').code, 'INVALID_TLS')
assert.equal(new TopologyMissing('…').code, 'TOPOLOGY_MISSING')

// End of examples

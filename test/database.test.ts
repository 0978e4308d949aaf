import { createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { createDataSource } from '../src/messaging/database.ts'
import { isUnavailable } from '../src/messaging/sql.ts'
import { testLog } from './support/system.ts'

/** A message of PostgreSQL's protocol. */
function protocol(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

t.test('a server that stops as it has taken a connection does not end the process', async (t) => {
  const authenticated = protocol('R', Buffer.alloc(4))
  const ready = protocol('Z', Buffer.from('I'))
  const stopping = protocol('E', Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to unexpected postmaster exit\0\0'))
  const server = createServer((socket) => {
    // All in one packet, as a process that was busy meanwhile reads it.
    socket.once('data', () => socket.end(Buffer.concat([authenticated, ready, stopping])))
  }).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const dataSource = createDataSource({ url: `postgres://nobody@127.0.0.1:${port}/nothing`, schema: 'public', migrations: [], poolSize: 2, log: testLog })
  const failure = await dataSource.initialize().then(() => undefined, (error: unknown) => error)
  t.ok(isUnavailable(failure), 'it is a database that is away', { failure })
})

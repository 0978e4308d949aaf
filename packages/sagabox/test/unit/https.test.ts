// HTTPS for real: a private authority, and certificates that change under a running server.
import { once } from 'node:events'
import { copyFileSync, readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { request } from 'node:https'
import { get } from 'node:http'
import { connect, type TLSSocket } from 'node:tls'
import { pino } from 'pino'
import t from 'tap'
import { buildApp } from '../../src/http/app.ts'
import type { ServerTls } from '../../src/http/tls.ts'
import { newAuthority } from '../../../../test/support/authority.ts'
import { until } from '../../../../test/support/until.ts'

const log = pino({ level: 'silent' })

function build(tls: ServerTls) {
  return buildApp(
    log,
    (app) => void app.get('/', { schema: { permission: 'public' } }, () => ({ here: true })),
    { tls, hasDocs: false }
  )
}

t.test('it speaks HTTPS alone, with the certificate that its files hold now', async (t) => {
  const authority = newAuthority(t)
  const files = authority.issue('first', 'DNS:localhost')
  const app = await build(files)
  await app.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => app.close())
  const { port } = app.server.address() as AddressInfo
  const ca = readFileSync(authority.caFile)
  const ask = async (options: object) => {
    const asked = request({ host: '127.0.0.1', port, servername: 'localhost', ...options })
    asked.end()
    const [answer] = await once(asked, 'response')
    answer.resume()
    return answer.statusCode as number
  }
  t.equal(await ask({ ca }), 200)
  await t.rejects(ask({}), /unable to (get|verify)|self.signed/, 'an authority that nobody knows')
  await t.rejects(ask({ ca: readFileSync(newAuthority(t).caFile) }), /certificate|verify/)
  await t.rejects(ask({ ca, servername: 'elsewhere' }), { code: 'ERR_TLS_CERT_ALTNAME_INVALID' })
  await t.rejects(ask({ ca, maxVersion: 'TLSv1.1' }), 'TLS 1.1 is too old')
  await t.rejects(once(get({ host: '127.0.0.1', port }), 'response'), 'HTTP is not spoken')
  t.equal(await ask({ ca }), 200, 'and it goes on after all of them')

  const subject = async () => {
    const socket: TLSSocket = connect({ host: '127.0.0.1', port, servername: 'localhost', ca })
    await once(socket, 'secureConnect')
    const { CN } = socket.getPeerCertificate().subject
    socket.destroy()
    return CN
  }
  const next = authority.issue('second', 'DNS:localhost')
  copyFileSync(next.certFile, files.certFile)
  // Its key is still to come: the one before is used on.
  t.equal(await subject(), 'first')
  copyFileSync(next.keyFile, files.keyFile)
  await until('the new certificate is used', async () => (await subject()) === 'second')
})

t.test('files that cannot be used stop the start', async (t) => {
  const authority = newAuthority(t)
  const [one, other] = [authority.issue('one', 'DNS:one'), authority.issue('other', 'DNS:other')]
  const { certFile } = one
  await t.rejects(build({ certFile, keyFile: '/no' }), {
    code: 'INVALID_TLS',
    message: /HTTPS_KEY_FILE: \/no cannot be read \(ENOENT\)/
  })
  await t.rejects(build({ certFile, keyFile: other.keyFile }), { message: /belongs to it/ })
})

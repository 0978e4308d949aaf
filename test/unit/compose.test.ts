// docker-compose.yml, by parsing it: there is no Docker where this runs.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createSecureServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parse } from 'yaml'
import { environmentVariables } from '../../src/config.ts'
import { newAuthority } from '../support/authority.ts'

interface ComposeService {
  image: string
  command?: string[]
  user?: string
  read_only?: boolean
  cap_drop?: string[]
  security_opt?: string[]
  environment?: Record<string, string>
  volumes?: string[]
  ports?: string[]
  restart: string
  depends_on?: Record<string, { condition: string }>
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const text = readFileSync(join(root, 'docker-compose.yml'), 'utf8')
const { services, volumes } = parse(text, { merge: true }) as {
  services: Record<string, ComposeService>
  volumes: Record<string, unknown>
}
const OURS = ['order', 'stock', 'payment']

t.test('no password has a default', async (t) => {
  const secrets = [...text.matchAll(/\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*)([^}]*)\}/g)]
  t.ok(secrets.length >= 4)
  for (const [all, name, rest] of secrets)
    t.match(rest, name === 'STRIPE_SECRET_KEY' ? /^:-$/ : /^:\?/, all)
})

t.test('what is ours runs closed, and asks who comes in', async (t) => {
  for (const name of [...OURS, 'keys'])
    t.match(
      services[name],
      {
        user: 'node',
        read_only: true,
        cap_drop: ['ALL'],
        security_opt: ['no-new-privileges:true']
      },
      name
    )
  const known = new Set(Object.values(environmentVariables()))
  for (const name of OURS) {
    const { environment = {}, depends_on, volumes: mounted } = services[name]!
    t.equal(environment['AUTH_KEYS_FILE'], '/keys/keys')
    t.equal(environment['SESSION_SECRET_FILE'], '/keys/session')
    t.match(environment['PUBLIC_URL'], new RegExp(`^\\$\\{${name.toUpperCase()}_PUBLIC_URL:-http`))
    t.notOk('AUTH' in environment)
    t.same(
      Object.keys(environment).filter(
        (variable) => !known.has(variable) && !known.has(variable.replace(/_FILE$/, ''))
      ),
      []
    )
    t.same(mounted, ['keys:/keys:ro'])
    t.equal(depends_on?.['keys']?.condition, 'service_completed_successfully')
  }
  for (const [name, { ports = [], security_opt }] of Object.entries(services)) {
    t.same(security_opt, ['no-new-privileges:true'], name)
    for (const port of ports) t.match(port, /^127\.0\.0\.1:/, name)
  }
  for (const volume of Object.values(services).flatMap((service) => service.volumes ?? []))
    t.ok(Object.hasOwn(volumes, volume.split(':', 1)[0]!), volume)
})

t.test('the key is made once, and printed once', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'sagabox-compose-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const { command, restart } = services['keys']!
  t.equal(restart, 'no')
  const [shell, ...args] = command!.map((part) => part.replaceAll('/keys/', `${folder}/`))
  const start = () => spawnSync(shell!, args, { cwd: root, encoding: 'utf8' })
  t.match(start(), { status: 0, stdout: /^sgb_[\w-]{43}\n$/ })
  const before = readFileSync(join(folder, 'keys'), 'utf8')
  t.match(before, /^admin admin [0-9a-f]{64}\n$/)
  const secret = readFileSync(join(folder, 'session'), 'utf8')
  t.match(secret, /^[0-9a-f]{64}\n$/)
  t.equal(statSync(join(folder, 'session')).mode & 0o777, 0o600)
  t.match(start(), { status: 0, stdout: '' }, 'the next start leaves it as it is')
  t.equal(readFileSync(join(folder, 'session'), 'utf8'), secret)
  t.equal(readFileSync(join(folder, 'keys'), 'utf8'), before)
})

t.test('a container asks itself how it is, by HTTPS when it speaks that', async (t) => {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8')
  t.match(dockerfile, 'CMD ["node", "health.mjs", "live"]')
  const { certFile, keyFile } = newAuthority(t).issue('order', 'DNS:order.internal')
  const answer = (asked: IncomingMessage, reply: ServerResponse) =>
    void reply.writeHead(asked.url === '/health/live' ? 200 : 503).end()
  const pair = { cert: readFileSync(certFile), key: readFileSync(keyFile) }
  for (const [server, environment] of [
    [createServer(answer), {}],
    [createSecureServer(pair, answer), { HTTPS_CERT_FILE: certFile }]
  ] as const) {
    await new Promise<void>((listening) => void server.listen(0, '127.0.0.1', listening))
    t.teardown(() => server.close())
    const { port } = server.address() as AddressInfo
    const ask = async (what: string, env: Record<string, string>) => {
      const asking = spawn(process.execPath, ['scripts/health.mjs', what], {
        cwd: root,
        env: { PORT: String(port), ...env }
      })
      return ((await once(asking, 'exit')) as [number])[0]
    }
    t.equal(await ask('live', environment), 0)
    t.equal(await ask('ready', environment), 1)
  }
})

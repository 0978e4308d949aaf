import type { FastifyBaseLogger } from 'fastify'
import { pino } from 'pino'
import t from 'tap'
import { buildApp } from '../../src/http/app.ts'

const log: FastifyBaseLogger = pino({ level: 'silent' })

async function seen(trustProxy: readonly string[] | undefined, remoteAddress: string) {
  const app = await buildApp(
    log,
    (root) =>
      void root.get('/who', { schema: { permission: 'public' } }, ({ ip, protocol }) => ({
        ip,
        protocol
      })),
    { ...(trustProxy && { trustProxy }) }
  )
  const answer = await app.inject({
    url: '/who',
    remoteAddress,
    headers: { 'x-forwarded-for': '203.0.113.9, 10.1.2.3', 'x-forwarded-proto': 'https' }
  })
  await app.close()
  return answer.json() as unknown
}

t.test('a proxy is believed who its client is, when it is one that was named', async (t) => {
  const named = ['10.0.0.0/8', '::1']
  t.same(await seen(named, '10.9.9.9'), { ip: '203.0.113.9', protocol: 'https' })
  t.same(await seen(named, '::1'), { ip: '203.0.113.9', protocol: 'https' })
})

t.test('nobody else is', async (t) => {
  t.same(await seen(['10.0.0.0/8'], '192.0.2.1'), { ip: '192.0.2.1', protocol: 'http' })
  t.same(await seen(undefined, '10.9.9.9'), { ip: '10.9.9.9', protocol: 'http' })
})

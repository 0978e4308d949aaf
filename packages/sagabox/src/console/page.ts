import fastifyStatic from '@fastify/static'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { needPermission, PUBLIC } from '../http/permission.ts'

/** Made by the build, from packages/sagabox/console; also when the sources run. */
const FOLDER = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../../dist/console/page/' : './page/', import.meta.url)
)

/** Its own files and its own API, and nothing that was not in them: no markup out of texts. */
const POLICY = [
  `default-src 'none'`,
  `script-src 'self'`,
  `style-src 'self'`,
  `img-src 'self'`,
  `connect-src 'self'`,
  `form-action 'self'`,
  `frame-ancestors 'none'`,
  `base-uri 'none'`,
  `require-trusted-types-for 'script'`
].join('; ')

const NOT_BUILT =
  'The console has not been built: run `npm run build` where the sources are. Everything else works.\n'

/** Answers with the page, or says that it was never built. */
export type SendPage = (request: FastifyRequest, reply: FastifyReply) => FastifyReply

/** Registers the page's files at `/console/assets`. @returns what answers with the page itself */
export function consolePageOf(app: FastifyInstance): SendPage {
  const index = `${FOLDER}index.html`
  if (!existsSync(index))
    return (_request, reply) => reply.code(503).type('text/plain; charset=utf-8').send(NOT_BUILT)
  const html = readFileSync(index, 'utf8')
  app.register(async (scope) => {
    needPermission(scope, PUBLIC)
    scope.addHook('onRoute', (route) => void (route.schema = { ...route.schema, hide: true }))
    await scope.register(fastifyStatic, {
      root: `${FOLDER}assets`,
      prefix: '/console/assets/',
      // Their names hold a digest of what is in them.
      immutable: true,
      maxAge: '365d',
      preCompressed: true,
      index: false,
      decorateReply: false
    })
  })
  return (_request, reply) =>
    reply
      .type('text/html; charset=utf-8')
      .headers({ 'content-security-policy': POLICY, 'cache-control': 'no-store' })
      .send(html)
}

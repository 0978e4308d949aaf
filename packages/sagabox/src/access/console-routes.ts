import rateLimit from '@fastify/rate-limit'
import type { FastifyPluginAsync, FastifyReply, FastifyRequest } from 'fastify'
import {
  authorizationCodeGrant,
  buildAuthorizationUrl,
  calculatePKCECodeChallenge,
  randomNonce,
  randomPKCECodeVerifier,
  randomState
} from 'openid-client'
import { describeError } from '../messaging/errors/describe.ts'
import { PUBLIC } from '../http/permission.ts'
import { HttpProblem } from '../http/problem.ts'
import type { Access } from './access.ts'
import type { Actor } from './actor.ts'
import { consolePage, PAGE_POLICY } from './console-page.ts'
import { digestOf } from './key-file.ts'

/** Of a form with a key. */
const FORM_BYTES = 4096
/** Sign-ins that one address may try within a minute. */
const TRIES_A_MINUTE = 10

const schema = { permission: PUBLIC, hide: true }

/** Answers with the console's page. */
type SendPage = (request: FastifyRequest, reply: FastifyReply) => FastifyReply

/**
 * The way to the console's page, and to sign in and out. Who may not look at sagas gets a page that
 * says who they are.
 * @param publicUrl how browsers see the server's root
 */
export function consoleRoutes(
  access: Access,
  publicUrl?: string,
  sendConsole?: SendPage
): FastifyPluginAsync {
  return async (app) => {
    await app.register(rateLimit, { global: false })
    app.addContentTypeParser(
      'application/x-www-form-urlencoded',
      { parseAs: 'string', bodyLimit: FORM_BYTES },
      (_request, body, done) => done(null, Object.fromEntries(new URLSearchParams(body as string)))
    )
    const rootOf = ({ protocol, host }: FastifyRequest) =>
      (publicUrl ?? `${protocol}://${host}`).replace(/\/$/, '')
    const home = (
      request: FastifyRequest,
      reply: FastifyReply,
      search = new URL(request.url, 'http://x').search
    ) =>
      reply
        .code(303)
        .header('location', `${rootOf(request)}/console/${search}`)
        .send()
    const page = (request: FastifyRequest, reply: FastifyReply, problem?: string) =>
      reply
        .type('text/html; charset=utf-8')
        .headers({ 'content-security-policy': PAGE_POLICY, 'cache-control': 'no-store' })
        .send(
          consolePage({
            actor: request.actor,
            isOpen: access.isOpen,
            takesKeys: access.takesKeys,
            takesProvider: access.oidc?.options.clientId !== undefined,
            // What was asked for is shown after signing in.
            search: new URL(request.url, 'http://x').search,
            ...(problem !== undefined && { problem })
          })
        )

    app.get('/console/', { schema }, (request, reply) =>
      // Links of the page go from where it is: with a slash at its end.
      request.url.split('?', 1)[0] === '/console'
        ? home(request, reply)
        : sendConsole && access.allows(request.actor, 'saga:read')
          ? sendConsole(request, reply)
          : page(request, reply)
    )

    app.post(
      '/console/sign-in',
      { schema, config: { rateLimit: { max: TRIES_A_MINUTE, timeWindow: 60_000 } } },
      async (request, reply) => {
        const { key = '' } = (request.body ?? {}) as { key?: string }
        try {
          const actor = access.actorByKey(key.trim())
          void reply.header(
            'set-cookie',
            await access.sessions.begin(actor, digestOf(key.trim()).toString('hex'))
          )
          request.log.info(seen(request, actor), 'Somebody signed in')
        } catch (error) {
          const { message: reason } = error as Error
          request.log.warn({ address: request.ip, reason }, 'A sign-in failed')
          return page(request, reply.code(401), reason)
        }
        return home(request, reply)
      }
    )

    app.post('/console/sign-out', { schema }, async (request, reply) => {
      request.log.info(seen(request, request.actor), 'Somebody signed out')
      void reply.header('set-cookie', await access.sessions.end(request.headers.cookie))
      return home(request, reply, '')
    })

    const { oidc } = access
    if (oidc?.options.clientId === undefined) return
    const callbackOf = (request: FastifyRequest) => `${rootOf(request)}/console/signed-in`

    app.get(
      '/console/sign-in/provider',
      { schema, config: { rateLimit: { max: TRIES_A_MINUTE, timeWindow: 60_000 } } },
      async (request, reply) => {
        const provider = await oidc.configuration()
        const [state, nonce, verifier] = [randomState(), randomNonce(), randomPKCECodeVerifier()]
        const url = buildAuthorizationUrl(provider, {
          redirect_uri: callbackOf(request),
          scope: 'openid profile email',
          code_challenge: await calculatePKCECodeChallenge(verifier),
          code_challenge_method: 'S256',
          state,
          nonce
        })
        const { search } = new URL(request.url, 'http://x')
        const cookie = await access.sessions.beginSignIn({ state, nonce, verifier, search })
        return reply.code(303).headers({ 'set-cookie': cookie, location: url.href }).send()
      }
    )

    const limited = { rateLimit: { max: TRIES_A_MINUTE, timeWindow: 60_000 } }
    app.get('/console/signed-in', { schema, config: limited }, async (request, reply) => {
      const checks = await access.sessions.signInOf(request.headers.cookie)
      void reply.header('set-cookie', access.sessions.endSignIn())
      if (!checks)
        return page(request, reply.code(400), 'This sign-in took too long, or began elsewhere')
      try {
        const query = request.url.slice(request.url.indexOf('?'))
        const tokens = await authorizationCodeGrant(
          await oidc.configuration(),
          new URL(callbackOf(request) + query),
          {
            pkceCodeVerifier: checks['verifier']!,
            expectedState: checks['state']!,
            expectedNonce: checks['nonce']!,
            idTokenExpected: true
          }
        )
        const actor = access.known(oidc.actorIn(tokens.claims()!))
        void reply.header('set-cookie', await access.sessions.begin(actor))
        request.log.info(seen(request, actor), 'Somebody signed in')
      } catch (error) {
        if (error instanceof HttpProblem) throw error
        const { text: reason } = describeError(error)
        request.log.warn({ address: request.ip, reason }, 'A sign-in failed')
        return page(request, reply.code(401), 'The provider did not confirm this sign-in')
      }
      return home(request, reply, checks['search'])
    })
  }
}

/** What the log says of somebody at the door. */
function seen({ ip, id }: FastifyRequest, { name, kind, roles }: Actor) {
  return { actor: name, kind, roles, address: ip, reqId: id }
}

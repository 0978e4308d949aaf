import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { readFileSync } from 'node:fs'
import { HttpProblem, notFound } from '../http/problem.ts'
import { askElsewhere, askHere, type Answered, type Ask } from './forward.ts'

/** What the operators' console shows besides the services of its process. */
export interface ConsoleOptions {
  /** Services elsewhere, by name: where their operators' routes are. See consoleServices. */
  readonly services?: Readonly<Record<string, string>> | undefined
  /** Names the environment on every page and in every dialog: `production`. */
  readonly label?: string | undefined
  /** Of the label: `#b3261e`. */
  readonly color?: string | undefined
  /** Whether it only shows, whatever who looks may do. */
  readonly readOnly?: boolean | undefined
}

/** A service of this process, as the console lists it. */
export interface Shown {
  readonly name: string
  readonly sagas: readonly { readonly name: string }[]
}

/** Of a service, as the page gets it. */
interface Listed {
  name: string
  url: string | null
  sagas: string[]
  version: string | null
  reachable: boolean
  error: string | null
  /** Since when it has not been reached. */
  since: string | null
}

const { version: VERSION } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
) as { version: string }

/** What the page asks about who looks: it shows no button that would be refused. */
const ACTIONS = [
  'saga:retry',
  'saga:cancel',
  'saga:answer',
  'saga:export',
  'saga:stop',
  'saga:note',
  'letter:retry',
  'letter:delete',
  'letter:edit',
  'letter:restore',
  'payload:read',
  'audit:read',
  'outbox:read'
]

const schema = { permission: 'saga:read', hide: true, audited: false as const }
/** Of a request that changes something, bytes: an edited message, say. The service has limits of its own. */
const LARGEST_BODY = 1024 * 1024
/** Of a service's own API, what operators use. */
const OPERATORS = /^\/(sagas|ops|health)(\/|\?|$)/
const PASSED = /^application\/(json|problem\+json|x-ndjson|octet-stream)\b/

/**
 * `/console/api`: the services that a console looks after, and the way to each one's own API.
 * @param sessionOf of a request's cookies, the one by which who signed in is known
 */
export function consoleApi(
  here: readonly Shown[],
  { services: elsewhere = {}, label, color, readOnly = false }: ConsoleOptions,
  sessionOf: (cookies: string | undefined) => string | undefined = () => undefined
): FastifyPluginAsync {
  return async (app) => {
    const { prefix } = app
    const peers = Object.entries(elsewhere).filter(([name]) =>
      here.every((one) => one.name !== name)
    )
    const asks = new Map<string, Ask>([
      ...here.map(({ name }) => [name, askHere(app, name, prefix)] as const),
      ...peers.map(([name, url]) => [name, askElsewhere(name, url, sessionOf)] as const)
    ])
    const lost = new Map<string, string>()
    app.removeAllContentTypeParsers()
    app.addContentTypeParser(
      '*',
      { parseAs: 'buffer', bodyLimit: LARGEST_BODY },
      (_r, body, done) => done(null, body)
    )

    const surroundings = async (request: FastifyRequest) => {
      const list = [
        ...here.map(({ name, sagas }) =>
          listed(
            name,
            null,
            sagas.map((saga) => saga.name),
            VERSION
          )
        ),
        ...(await Promise.all(
          peers.map(([name, url]) => lookAt(name, url, asks.get(name)!, request, lost))
        ))
      ]
      const { name, kind, roles } = request.actor
      return {
        label: label ?? null,
        color: color ?? null,
        readOnly,
        you: {
          name,
          roles,
          signedIn: kind !== 'anonymous',
          may: ACTIONS.filter((action) => request.may(action))
        },
        services: list
      }
    }
    app.get('/console/api/services', { schema }, (request) => surroundings(request))

    app.route({
      method: ['GET', 'POST', 'PUT', 'DELETE'],
      url: '/console/api/at/:service/*',
      schema,
      bodyLimit: LARGEST_BODY,
      handler: async (request, reply) => {
        const { service } = request.params as { service: string }
        const ask = asks.get(service)
        if (!ask)
          throw notFound(
            `service ${service} in this console: it has ${[...asks.keys()].join(', ')}`
          )
        const path = pathIn(request, `${prefix}/console/api/at/${service}`)
        const { method } = request
        if (method !== 'GET' && method !== 'HEAD')
          mayChange(request, service, readOnly, service in elsewhere)
        const body = request.body instanceof Buffer ? request.body : undefined
        const answer = await ask({ method, path, body, request })
        if (answer.body.length > 0 && !PASSED.test(answer.type ?? ''))
          throw foreign(service, answer)
        return reply
          .code(answer.status)
          .headers({
            ...(answer.type !== undefined && { 'content-type': answer.type }),
            ...(answer.disposition !== undefined && { 'content-disposition': answer.disposition }),
            ...(answer.retryAfter !== undefined && { 'retry-after': answer.retryAfter }),
            'cache-control': 'no-store'
          })
          .send(answer.body)
      }
    })
  }
}

/** Path and query behind a prefix, if a service takes them from here and nothing leads out of them. */
function pathIn({ url }: FastifyRequest, prefix: string): string {
  const path = url.slice(prefix.length)
  const way = path.split('?', 1)[0]!
  const isPlain =
    url.startsWith(`${prefix}/`) &&
    new URL(path, 'http://x').pathname === way &&
    !way.includes('//')
  if (isPlain && OPERATORS.test(path)) return path
  throw new HttpProblem(
    404,
    `The console asks no service for ${way.slice(0, 200)}; expected /sagas…, /ops… or /health…`
  )
}

/** @throws HttpProblem */
function mayChange(
  request: FastifyRequest,
  service: string,
  readOnly: boolean,
  isElsewhere: boolean
) {
  if (readOnly) throw new HttpProblem(403, 'This console only shows: CONSOLE_READ_ONLY is set')
  // A service that asks nobody who they are would let everybody who may look here change things.
  if (isElsewhere && !request.may('saga:retry'))
    throw new HttpProblem(403, `You may not change anything of ${service} from here`)
}

async function lookAt(
  name: string,
  url: string,
  ask: Ask,
  request: FastifyRequest,
  lost: Map<string, string>
): Promise<Listed> {
  try {
    const answer = await ask({
      method: 'GET',
      path: '/sagas/definitions',
      body: undefined,
      request
    })
    if (answer.status >= 500 || !PASSED.test(answer.type ?? '')) throw foreign(name, answer)
    lost.delete(name)
    // 404: it has no sagas.
    if (answer.status === 404) return listed(name, url, [], null)
    const { items, detail } = JSON.parse(answer.body.toString()) as {
      items?: { name: string }[]
      detail?: string
    }
    const found = listed(
      name,
      url,
      (items ?? []).map((saga) => saga.name),
      null
    )
    return answer.status === 200 ? found : { ...found, error: `${answer.status}: ${detail}` }
  } catch (error) {
    const since = lost.get(name) ?? new Date().toISOString()
    lost.set(name, since)
    const found = listed(name, url, [], null)
    return { ...found, reachable: false, error: (error as Error).message, since }
  }
}

function listed(name: string, url: string | null, sagas: string[], version: string | null): Listed {
  return { name, url, sagas, version, reachable: true, error: null, since: null }
}

function foreign(name: string, { status, type = 'nothing' }: Answered): HttpProblem {
  return new HttpProblem(
    502,
    `${name} answers ${status} with ${type.slice(0, 80)} where JSON was expected. Is this the address of a Sagabox service?`
  )
}

import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { MAX_KEY_BYTES } from '../messaging/message/correlation.ts'
import { BODY_LIMIT, useBodies } from './body.ts'
import { limitConnections } from './connections.ts'
import { setPublicPath } from './links.ts'
import { useHeaders } from './headers.ts'
import { needPermission } from './permission.ts'
import { refuse, sendProblem, useProblems } from './problem.ts'
import { useOperationIds } from './operation-id.ts'
import { followFiles, readCertifiedKey, type ServerTls } from './tls.ts'
import { useTypeBox } from './validate.ts'

/** A request has so long to arrive, ms, body included; looked at as often as CHECK_MS says. */
const REQUEST_MS = 30_000
const CHECK_MS = 5000
/**
 * A client that takes nothing of an answer for so long, ms, is cut off: what it does not take is
 * kept in memory.
 */
const STALLED_MS = 60_000

/** How the server that a process listens with is limited, and called outside. */
export interface AppOptions {
  /** Connections at once; as many as the system allows when not given. */
  maxConnections?: number
  /**
   * How clients see the server, with the prefix that a proxy takes away:
   * `https://example.com/shop`.
   */
  publicUrl?: string
  /** Origins of pages elsewhere that may ask, such as `https://admin.example.com`; none else may. */
  corsOrigins?: readonly string[]
  /**
   * Addresses and networks of proxies in front: what they say in X-Forwarded-For, -Proto and -Host
   * is believed. Anybody else's word for it is not.
   */
  trustProxy?: readonly string[]
  /** Files of its certificate and key: it speaks HTTPS alone. */
  tls?: ServerTls
  /** Whether it serves the documentation of its routes; it does when not said otherwise. */
  hasDocs?: boolean
  /** Called before any route is there: what it hooks stands before all of them. */
  guard?(app: FastifyInstance): void
}

/**
 * Builds the HTTP server: strict validation, problem documents, OpenAPI at /openapi.json and /docs.
 * It does not listen.
 * @param register adds the routes
 * @throws InvalidTls when the files of `tls` cannot be used
 */
export async function buildApp(
  log: FastifyBaseLogger,
  register: (app: FastifyInstance) => void,
  {
    maxConnections,
    publicUrl,
    corsOrigins,
    trustProxy,
    tls,
    hasDocs = true,
    guard
  }: AppOptions = {}
): Promise<FastifyInstance> {
  const publicPath = publicUrl === undefined ? '' : new URL(publicUrl).pathname.replace(/\/$/, '')
  const http = { requireHostHeader: false, connectionsCheckingInterval: CHECK_MS }
  const app = Fastify({
    loggerInstance: log,
    // A line a request costs more than the request; errors are logged where they are handled.
    logController: new LogController({ disableRequestLogging: true }),
    // Fastify makes a logger for each request, which costs 3 µs; whoever logs names the request.
    childLoggerFactory: (logger) => logger,
    bodyLimit: BODY_LIMIT,
    trustProxy: trustProxy === undefined ? false : [...trustProxy],
    requestTimeout: REQUEST_MS,
    connectionTimeout: STALLED_MS,
    ...(tls
      ? // Fastify has another type for it, with nothing else that is used here.
        { https: { ...http, ...readCertifiedKey(tls), minVersion: 'TLSv1.2' } as unknown as null }
      : { http }),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: MAX_KEY_BYTES },
    frameworkErrors: (error, request, reply) => void sendProblem(error, request, reply),
    clientErrorHandler: refuse
  })
  if (tls) followFiles(app, tls, log)
  useBodies(app)
  useTypeBox(app)
  useProblems(app)
  useOperationIds(app)
  setPublicPath(app, publicPath)
  limitConnections(app.server, log, maxConnections)
  const isHttps = tls !== undefined || publicUrl?.startsWith('https:') === true
  await useHeaders(app, isHttps, corsOrigins)
  guard?.(app)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      ...(publicUrl !== undefined && { servers: [{ url: publicUrl.replace(/\/$/, '') }] }),
      info: {
        title: 'Sagabox',
        version: '0.1.0',
        description: 'Orders that always end: completed, or failed with everything undone.'
      },
      components: {
        securitySchemes: {
          key: { type: 'http', scheme: 'bearer', description: 'A key, or a token of the provider' }
        }
      },
      tags: [
        { name: 'order', description: 'Place orders and see how they end' },
        { name: 'saga', description: 'What happened to each order, step by step' },
        { name: 'stock', description: 'Products and reservations' },
        { name: 'payment', description: 'Charges and refunds' },
        { name: 'dead letters', description: 'Messages that could not be handled' },
        { name: 'operations', description: 'Health and outboxes' }
      ]
    }
  })
  if (hasDocs) await serveDocs(app)
  app.after(() => register(app))
  return app
}

/** Documentation at /docs, to which the root leads, and /openapi.json. */
async function serveDocs(app: FastifyInstance): Promise<void> {
  // Links go from where the page is, so that it finds its files wherever a proxy has put it: with a
  // slash at its end.
  await app.register(async (docs) => {
    needPermission(docs, 'docs:read')
    await docs.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      uiHooks: {
        onRequest: ({ url }, reply, next) => {
          if (url.split('?', 1)[0] !== '/docs') return next()
          void reply.redirect('docs/')
        }
      }
    })
    docs.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
  })
  app.get('/', { schema: { hide: true, permission: 'public' } }, (_request, reply) =>
    reply.redirect('docs/')
  )
}

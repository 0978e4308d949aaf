import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { LogController, type FastifyBaseLogger, type FastifyInstance } from 'fastify'
import { refuse, sendProblem, useProblems } from './problem.ts'
import { useTypeBox } from './validate.ts'

/** Largest request body, bytes. */
const BODY_LIMIT = 1024 * 1024

/**
 * Builds the HTTP server: strict validation, problem documents, OpenAPI at /openapi.json and /docs. It does not listen.
 * @param register adds the routes
 */
export async function buildApp(log: FastifyBaseLogger, register: (app: FastifyInstance) => void): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: log,
    // A line a request costs more than the request; errors are logged where they are handled.
    logController: new LogController({ disableRequestLogging: true }),
    // Fastify makes a logger for each request, which costs 3 µs; whoever logs names the request.
    childLoggerFactory: (logger) => logger,
    bodyLimit: BODY_LIMIT,
    requestTimeout: 30_000,
    routerOptions: { ignoreTrailingSlash: true },
    frameworkErrors: (error, request, reply) => void sendProblem(error, request, reply),
    clientErrorHandler: refuse
  })
  // JSON only: text that happens to be JSON is refused with 415, not taken for a string.
  app.removeContentTypeParser('text/plain')
  useTypeBox(app)
  useProblems(app)
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Sagabox', version: '0.1.0', description: 'Orders that always end: completed, or failed with everything undone.' },
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
  await app.register(swaggerUi, { routePrefix: '/docs' })
  app.after(() => register(app))
  app.get('/openapi.json', { schema: { hide: true } }, () => app.swagger())
  app.get('/', { schema: { hide: true } }, (_request, reply) => reply.redirect('/docs'))
  return app
}

import cors from '@fastify/cors'
import type { FastifyInstance } from 'fastify'
import helmet from 'helmet'
import { IncomingMessage, ServerResponse, type OutgoingHttpHeaders } from 'node:http'
import { Socket } from 'node:net'

/**
 * What browsers are told of every answer: not to run or frame it, nor to show it to other pages.
 * Pages that are meant for browsers say more of themselves.
 * @param isHttps whether clients come by https, and shall keep to it
 * @param corsOrigins whose pages may read answers; nobody else's may
 */
export async function useHeaders(
  app: FastifyInstance,
  isHttps: boolean,
  corsOrigins: readonly string[] = []
): Promise<void> {
  const headers = securityHeaders(isHttps)
  app.addHook('onRequest', (_request, reply, next) => {
    void reply.headers(headers)
    next()
  })
  if (corsOrigins.length > 0)
    await app.register(cors, { origin: [...corsOrigins], maxAge: 600, strictPreflight: true })
}

/** They are the same for every answer; Helmet made anew for each, it took 30 µs a request. */
function securityHeaders(isHttps: boolean): OutgoingHttpHeaders {
  const answer = new ServerResponse(new IncomingMessage(new Socket()))
  const tell = helmet({
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: [`'none'`], frameAncestors: [`'none'`] }
    },
    strictTransportSecurity: isHttps,
    xFrameOptions: { action: 'deny' }
  })
  tell(answer.req, answer, (error) => {
    if (error !== undefined) throw error as Error
  })
  return answer.getHeaders()
}

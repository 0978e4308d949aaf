import cors from '@fastify/cors'
import helmet from '@fastify/helmet'
import type { FastifyInstance } from 'fastify'

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
  await app.register(helmet, {
    contentSecurityPolicy: {
      useDefaults: false,
      directives: { defaultSrc: [`'none'`], frameAncestors: [`'none'`] }
    },
    strictTransportSecurity: isHttps,
    xFrameOptions: { action: 'deny' }
  })
  if (corsOrigins.length > 0)
    await app.register(cors, { origin: [...corsOrigins], maxAge: 600, strictPreflight: true })
}

import type { FastifyInstance } from 'fastify'

/**
 * Names each operation in the documentation after its method and path: generated clients call it
 * so.
 */
export function useOperationIds(app: FastifyInstance): void {
  app.addHook('onRoute', ({ method, url, schema }) => {
    if (!schema || schema.hide || method === 'HEAD') return
    schema.operationId ??= operationId(String(method), url)
  })
}

/** `POST /orders/:orderId/cancel` -> `postOrdersByOrderIdCancel` */
function operationId(method: string, url: string): string {
  const parts = url.split(/[/-]/).filter(Boolean)
  const words = parts.map((part) =>
    capital(part.replace(/^:(.)/, (_, first: string) => `by${capital(first)}`))
  )
  return `${method.toLowerCase()}${words.join('')}`
}

function capital(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1)
}

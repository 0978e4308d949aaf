import type { FastifyInstance } from 'fastify'
import { BODY_LIMIT, useBodies } from './body.ts'
import { setPublicPath } from './links.ts'
import { useProblemAnswers } from './problem.ts'
import { useTypeBox } from './validate.ts'

/**
 * For a part of somebody else's app: bodies, validation and answers of its own, whatever the rest of
 * the app has.
 */
export function useOwnRules(scope: FastifyInstance): void {
  scope.addHook('onRoute', (route) => void (route.bodyLimit ??= BODY_LIMIT))
  useBodies(scope)
  useTypeBox(scope)
  useProblemAnswers(scope)
  setPublicPath(scope, scope.prefix)
}

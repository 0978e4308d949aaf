import type { FastifyRequest } from 'fastify'
import { MASK, type Mask } from '../messaging/message/sensitive.ts'

/** What is hidden from whoever asks; undefined: nothing. */
export function maskFor(request: FastifyRequest, mask: Mask): Mask | undefined {
  return mask.isNeeded && !request.may('payload:read') ? mask : undefined
}

/**
 * What is hidden of a letter. One that no handler here takes may hold anything: who may not read
 * payloads sees nothing of it.
 */
export function maskForLetter(
  request: FastifyRequest,
  mask: Mask,
  kind: string
): Mask | 'all' | undefined {
  return kind === 'skipped' && !request.may('payload:read') ? 'all' : maskFor(request, mask)
}

interface Shown {
  payload: string
  payloadEncoding?: 'utf8' | 'base64'
  headers?: Record<string, unknown> | null
}

/** A row of the outbox as whoever asks may see it. Of what is not shown whole nothing is. */
export function maskedRow<T extends Shown>(row: T, mask: Mask | undefined): T {
  if (!mask) return row
  const { payload, payloadEncoding = 'utf8', headers } = row
  return {
    ...row,
    payload: payloadEncoding === 'utf8' ? mask.ofText(payload) : MASK,
    ...('payloadEncoding' in row && { payloadEncoding: 'utf8' }),
    ...(headers && { headers: mask.of(headers) })
  }
}

import { DeadLetterCollector, type CollectorOptions } from '../messaging/dead-letters/collector.ts'
import { EnvelopeReader } from '../messaging/message/envelope.ts'
import type { Contract } from '../messaging/message/message.ts'
import type { Worker } from '../messaging/async/worker.ts'

/** The endpoint behind a queue of dead letters. */
function endpointOf(queue: string): string {
  return queue.replace(/_(error|skipped)$/, '')
}

/** Endpoints of others whose dead letters are collected, each once. */
export function endpointsOf(lettersOf: readonly string[]): string[] {
  return [...new Set(lettersOf.map(endpointOf))]
}

/**
 * What collects the dead letters of others.
 * @param known contracts by which they may be read
 */
export function theirLetters(
  lettersOf: readonly string[],
  known: readonly Contract[],
  options: CollectorOptions
): Worker[] {
  const reader = new EnvelopeReader(known.filter(({ foreign }) => !foreign))
  return endpointsOf(lettersOf).map((endpoint) => {
    const theirs = lettersOf.filter((queue) => endpointOf(queue) === endpoint)
    return new DeadLetterCollector(endpoint, reader, { ...options, theirs })
  })
}

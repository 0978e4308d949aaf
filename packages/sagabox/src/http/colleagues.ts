import type { FastifyRequest } from 'fastify'
import { orTimeout } from '../messaging/async/timeout.ts'
import type { ServiceReport } from '../messaging/trace/report.ts'
import type { TraceQuestion } from '../messaging/trace/trace.ts'
import type { Answered } from '../saga/explain/answered.ts'

/** A service that can be asked what it knows of messages. */
export interface Colleague {
  readonly name: string
  /** @param authorization of whoever asks, for a service of another process */
  report(question: TraceQuestion, authorization: string | undefined): Promise<ServiceReport>
}

/** For so long an answer is waited for, ms. */
const ANSWER_MS = 2000

/**
 * Asks all services at once, as whoever asks may. One that is slow, or answers otherwise than it
 * should, is unknown, and never fails the whole. What failures say is for those who may read letters.
 */
export async function askAll(
  colleagues: readonly Colleague[],
  question: TraceQuestion,
  request: FastifyRequest
): Promise<Answered> {
  const { authorization } = request.headers
  const reports = new Map<string, ServiceReport>()
  const unknown = new Map<string, string>()
  const isTold = request.may('letter:read')
  const answers = await Promise.allSettled(
    colleagues.map((colleague) =>
      orTimeout(ANSWER_MS, 'no answer', colleague.report(question, authorization))
    )
  )
  // In the order of the services, whoever answered first.
  for (const [index, { name }] of colleagues.entries()) {
    const answer = answers[index]!
    if (answer.status === 'fulfilled')
      reports.set(name, isTold ? answer.value : withoutErrors(answer.value))
    else {
      const error = answer.reason as Error
      request.log.debug({ err: error, service: name }, 'A service did not answer')
      unknown.set(name, error.message)
    }
  }
  return { reports, unknown }
}

function withoutErrors(report: ServiceReport): ServiceReport {
  return { ...report, messages: report.messages.map((seen) => ({ ...seen, error: null })) }
}

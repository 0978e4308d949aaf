import type { ServiceReport } from '../../messaging/trace/report.ts'
import type { TraceQuestion } from '../../messaging/trace/trace.ts'

/** What all services said to one question. */
export interface Answered {
  /** By their names. */
  reports: ReadonlyMap<string, ServiceReport>
  /** Those that did not answer, and why. */
  unknown: ReadonlyMap<string, string>
}

/** Asks every service that is known. Never throws. */
export type AskServices = (question: TraceQuestion) => Promise<Answered>

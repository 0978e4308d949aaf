/** What the API answers, as far as the page reads it. */

export interface ServiceInfo {
  name: string
  url: string | null
  sagas: string[]
  version: string | null
  reachable: boolean
  error: string | null
  since: string | null
}

export interface Surroundings {
  label: string | null
  color: string | null
  readOnly: boolean
  you: { name: string; roles: string[]; signedIn: boolean; may: string[] }
  services: ServiceInfo[]
}

export interface Page<T> {
  items: T[]
  nextCursor: string | null
}

export interface SagaRow {
  sagaId: string
  key?: string
  status: string
  state: string
  version: number
  machineVersion: number
  createdAt: string
  updatedAt: string
  stuckSince: string | null
}

export interface Sent {
  type: string
  messageId: string
}

export interface HistoryStep {
  sequence: number
  event: string
  messageId: string | null
  from: string | null
  to: string
  sent: Sent[]
  machineVersion: number
  note: string | null
  at: string
}

export interface SagaDetail extends SagaRow {
  context: Record<string, unknown>
  accepts: string[]
  timers: { id: string; event: string; dueAt: string }[]
  waitingFor: {
    events: string[]
    commands: string[]
    since: string
    attempts: number
    lastError: { at: string; message: string; type: string | null } | null
  } | null
  deferred: { event: string; messageId: string | null; since: string | null }[]
  historyBefore: number | null
  history: HistoryStep[]
}

export interface Counts {
  stuck: number
  byState: Record<string, number>
  endedSince: string | null
}

export interface Point {
  x: number
  y: number
}

export interface DiagramState {
  path: string
  kind: 'atomic' | 'compound' | 'parallel' | 'final'
  description: string | null
  x: number
  y: number
  width: number
  height: number
}

export interface DiagramEdge {
  from: string
  to: string
  event: string | null
  delayMs: number | null
  isTimer: boolean
  points: Point[]
  labelAt: Point
  sends: string[]
}

export interface ContractInfo {
  name: string
  urn: string
  kind: string
  owner: string
  sentBy: string | string[] | null
  takenBy: string[]
  schema: unknown
  states: string[]
}

export interface Definition {
  saga: string
  version: number
  states: DiagramState[]
  edges: DiagramEdge[]
  contracts: ContractInfo[]
}

export type Severity = 'ok' | 'waiting' | 'problem'

export interface Explanation {
  sentence: string
  severity: Severity
  finding: string
  evidence: {
    text: string
    service?: string | null
    messageId?: string | null
    letterId?: string | number | null
    at?: string | null
  }[]
  suggestions: { text: string; action?: 'retry' | 'cancel' | 'letter' | null; target?: unknown }[]
  others: { count: number; state: string } | null
  next: { at: string | null; to: string; sends: string[] } | null
}

export interface PathStep {
  sequence: number
  at: string
  msInState: number | null
  event: string
  from: string | null
  to: string
  sent: (string | Sent)[]
  context?: Record<string, unknown> | null
  changed: { path: string; before?: unknown; after?: unknown }[]
  note: string | null
}

export interface Path {
  steps: PathStep[]
  reachable: string[]
  timer: { at: string; to: string } | null
  usual: Record<string, { p50Ms: number; p95Ms: number; of: number }>
}

export interface Hop {
  service: string
  state: string
  at: string | null
  waitedMs: number | null
  error: string | null
  letterId: string | number | null
}

export interface TracedMessage {
  messageId: string
  contract: string
  kind: string | null
  from: string | null
  to: string[]
  sentAt: string | null
  causedBy: string | null
  hops: Hop[]
}

export interface Messages {
  messages: TracedMessage[]
  unknown: string[]
}

export interface Ages {
  states: { state: string; counts: Record<string, number>; p95Ms: number | null }[]
  sentence: string
}

export interface Replay {
  consistent: boolean
  steps: number
  unknownVersions: number
  state: string
  firstDifference: {
    sequence: number
    what: string
    recorded: unknown
    replayed: unknown
  } | null
}

export interface OutboxStatus {
  pending: number
  atLeast: boolean
  postponed: number
  scheduled: number
  oldestAgeSeconds: number
  leader: { application: string; address: string | null; since: string } | null
  lastError: string | null
  putOff: { destination: string; rows: number; reason: string | null; oldestAgeSeconds: number }[]
}

export interface LetterGroup {
  kind: string
  status: string
  type: string | null
  exception: string
  count: number
  oldest: string
  newest: string
  reason: string
  id?: string
  note?: { note: string; by: string | null; at: string; resolvedAt: string | null } | null
  cameBack?: boolean
}

export interface LetterRow {
  id: number
  endpoint: string
  kind: string
  status: string
  messageId: string | null
  type: string | null
  correlationId: string | null
  exception: string
  reason: string
  seen: number
  firstSeenAt: string
  lastSeenAt: string
  retryingSince: string | null
  bytes: number
}

export interface Letter extends LetterRow {
  stack: string | null
  attempts: { at: string; error: string }[]
  attemptsLeftOut: number
  headers: Record<string, unknown>
  contentType: string | null
  payload: string
  payloadEncoding: 'utf8' | 'base64'
}

export interface GroupRetry {
  id: number
  filter: Record<string, string>
  state: 'running' | 'done' | 'stopped'
  reason: string | null
  left: number
  atLeast: boolean
  sent: number
  handled: number
  failedAgain: number
  underWay: number
  lost: number
  startedAt: string
  endedAt: string | null
  warning?: string
}

export interface AuditRow {
  id: string
  at: string
  actor: string
  kind: string
  roles: string[]
  action: string
  target: string
  reason: string | null
  outcome: string
  status: number
  times: number
}

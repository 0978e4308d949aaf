import { describeError } from '../errors/describe.ts'
import { boundedFields, boundedText } from '../postgres/bounded.ts'
import { HOST_INFO } from '../message/envelope.ts'
import { REDELIVERIES } from '../message/envelope-header.ts'
import { numberIn, own } from '../transport/headers.ts'
import type { Headers } from '../transport/transport.ts'

/** One try to handle a message, and why it failed. */
export interface FailedAttempt {
  /** ISO 8601. */
  at: string
  error: string
}

/** Where the attempts travel, as JSON. */
const ATTEMPTS = 'sagabox-attempts'
/** Id of the dead letter that an operator sent back. */
const REPLAYED = 'sagabox-replayed'

/** Attempts kept, and characters of a text kept: a header table has 64 KiB for everything. */
const MOST_ATTEMPTS = 20
const LONGEST_TEXT = 2000
const LONGEST_STACK = 6000
/** What a sender's own headers may take of it, bytes as JSON. */
const LONGEST_HEADERS = 24_000
/** What all headers of a dead letter may take in its table, bytes as JSON. */
const LONGEST_STORED_HEADERS = 48_000
/** AMQP's limit for the name of a header, bytes. */
const LONGEST_NAME = 255

/**
 * What the broker writes about a message's past. It is written anew, and sent by a client it would
 * mislead.
 */
const BROKERS_OWN = /^x-(death|first-death|last-death|delivery-count|acquired-count|opt-)/

export function attemptOf(error: unknown): FailedAttempt {
  const { type, text } = describeError(error)
  return { at: new Date().toISOString(), error: `${type}: ${text}`.slice(0, 300) }
}

/**
 * The tries before this delivery. Headers are a sender's word: whatever is not a list of attempts
 * is none.
 */
export function attemptsIn(headers: Headers): FailedAttempt[] {
  const text = own(headers, ATTEMPTS)
  if (typeof text !== 'string' || text.length > LONGEST_HEADERS) return []
  try {
    const value: unknown = JSON.parse(text)
    return Array.isArray(value)
      ? value
          .filter(isAttempt)
          .map(({ at, error }) => ({ at, error }))
          .slice(-MOST_ATTEMPTS)
      : []
  } catch {
    return []
  }
}

/**
 * The headers of a dead letter as its table keeps them, without the attempts, which it keeps beside
 * them. Anybody may have put the letter there: what is too long is left out and counted.
 */
export function storedHeaders(headers: Headers): Headers {
  const ours = (name: string, value: unknown) => name.startsWith('MT-') && typeof value === 'string'
  const fields = Object.entries(headers)
    .filter(([name]) => name !== ATTEMPTS)
    // A sender's own would be sent back cut.
    .map(([name, value]) => [
      name,
      ours(name, value) ? boundedText(value as string, LONGEST_STACK) : value
    ])
  const { kept, dropped, droppedBytes } = boundedFields(
    Object.fromEntries(fields) as Headers,
    LONGEST_STORED_HEADERS
  )
  if (dropped === 0) return kept
  return {
    ...kept,
    'sagabox-headers-dropped': `${dropped} headers were too long to be kept, or nested too deep: ${droppedBytes} bytes`
  }
}

/**
 * How often the message was put off before this delivery.
 * @param inside headers of its envelope: MassTransit may say it there alone
 */
export function redeliveriesIn(headers: Headers, inside: Headers = {}): number {
  // Of a letter that was sent back, the envelope tells how often it was put off before.
  const said = replayedIn(headers) === undefined ? numberIn(inside, REDELIVERIES) : undefined
  const count = numberIn(headers, REDELIVERIES) ?? said ?? 0
  return count > 0 ? count : 0
}

/**
 * The letter that an operator sent back. It gets no delayed redeliveries, so that the operator soon
 * sees how it ends.
 */
export function replayedIn(headers: Headers): number | undefined {
  return numberIn(headers, REPLAYED)
}

/**
 * The headers of a dead letter that is sent back: what its sender wrote, and nothing of its
 * failures.
 */
export function replayHeaders(letterId: string, headers: Headers): Headers {
  return { ...sendersOwn(headers), [REPLAYED]: letterId }
}

/** The headers of a message that is put off. */
export function redeliveryHeaders(
  headers: Headers,
  attempts: readonly FailedAttempt[],
  redeliveries = redeliveriesIn(headers) + 1
): Headers {
  return {
    ...sendersOwn(headers),
    [REDELIVERIES]: redeliveries,
    [ATTEMPTS]: JSON.stringify(attempts.slice(-MOST_ATTEMPTS))
  }
}

/** The headers of a message that comes again by no fault of its own: nothing counts against it. */
export function waitingHeaders(headers: Headers, attempts: readonly FailedAttempt[]): Headers {
  const kept = Object.fromEntries(
    [REDELIVERIES, REPLAYED].flatMap((name) =>
      Object.hasOwn(headers, name) ? [[name, headers[name]]] : []
    )
  )
  return {
    ...sendersOwn(headers),
    ...kept,
    [ATTEMPTS]: JSON.stringify(attempts.slice(-MOST_ATTEMPTS))
  }
}

/**
 * The headers of a message that goes to `<endpoint>_error` or `<endpoint>_skipped`, named as
 * MassTransit names them.
 * @param reason MassTransit's: `fault`, or `dead-letter` for what no handler takes
 * @param inside headers of its envelope
 */
export function deadLetterHeaders(
  headers: Headers,
  reason: 'fault' | 'dead-letter',
  address: string,
  type: string | undefined,
  error: unknown,
  attempts: readonly FailedAttempt[],
  inside?: Headers
): Headers {
  const retries = attempts.length - 1
  const redeliveries = redeliveriesIn(headers, inside)
  const { type: exception, text, stack } = describeError(error)
  return {
    ...sendersOwn(headers),
    'MT-Reason': reason,
    'MT-Fault-ExceptionType': exception,
    'MT-Fault-Message': text,
    'MT-Fault-StackTrace': stack ?? '',
    'MT-Fault-Timestamp': new Date().toISOString(),
    'MT-Fault-InputAddress': address,
    ...(type !== undefined && { 'MT-Fault-MessageType': type }),
    ...(retries > 0 && { 'MT-Fault-RetryCount': retries }),
    ...(redeliveries > 0 && { 'MT-Fault-RedeliveryCount': redeliveries }),
    ...HOST_HEADERS,
    [ATTEMPTS]: JSON.stringify(attempts.slice(-MOST_ATTEMPTS))
  }
}

/** This process, as MassTransit names it in a dead letter: all text. */
const HOST_HEADERS = {
  'MT-Host-MachineName': HOST_INFO.machineName,
  'MT-Host-ProcessName': HOST_INFO.processName,
  'MT-Host-ProcessId': String(HOST_INFO.processId),
  'MT-Host-Assembly': HOST_INFO.assembly,
  'MT-Host-AssemblyVersion': HOST_INFO.assemblyVersion,
  'MT-Host-MassTransitVersion': HOST_INFO.massTransitVersion,
  'MT-Host-FrameworkVersion': HOST_INFO.frameworkVersion,
  'MT-Host-OperatingSystemVersion': HOST_INFO.operatingSystemVersion
}

/** Why a message is in an error or skipped queue, as far as its headers tell. */
export function causeIn(headers: Headers): {
  exception: string
  reason: string
  stack: string | undefined
} {
  const text = (name: string, longest: number) => {
    const value = own(headers, name)
    return typeof value === 'string' && value !== '' ? value.slice(0, longest) : undefined
  }
  const broker = text('x-first-death-reason', 100)
  const exception = text('MT-Fault-ExceptionType', 200)
  if (exception === undefined && text('MT-Reason', 20) === 'dead-letter') {
    const by = text('MT-Host-ProcessName', 100) ?? 'a service'
    const on = text('MT-Host-MachineName', 100)
    return {
      exception: 'UnknownMessageType',
      reason: `skipped by ${by}${on === undefined ? '' : ` on ${on}`}: it has no consumer of this type`,
      stack: undefined
    }
  }
  return {
    exception: exception ?? (broker ? 'DeadLetteredByBroker' : 'Unknown'),
    reason:
      text('MT-Fault-Message', LONGEST_TEXT) ??
      (broker === 'delivery_limit'
        ? 'the broker handed it out more often than its delivery limit allows, and nobody finished it'
        : (broker ?? 'no cause is given')),
    stack: text('MT-Fault-StackTrace', LONGEST_STACK)
  }
}

/** Whether the broker took it out of its queue because its time was over. */
export function hasExpired(headers: Headers): boolean {
  return own(headers, 'x-first-death-reason') === 'expired'
}

/**
 * Only plain values: a nested table may be too deep to write, or one that AMQP cannot carry a
 * second time.
 */
function sendersOwn(headers: Headers): Record<string, unknown> {
  const isPlain = (value: unknown) =>
    typeof value === 'string' ||
    typeof value === 'boolean' ||
    (typeof value === 'number' && Number.isFinite(value))
  const isOurs = (name: string) =>
    BROKERS_OWN.test(name) ||
    name.startsWith('MT-Fault-') ||
    name.startsWith('MT-Host-') ||
    name === 'MT-Reason' ||
    name === ATTEMPTS ||
    name === REDELIVERIES ||
    name === REPLAYED
  const kept = Object.fromEntries(
    Object.entries(headers).filter(
      ([name, value]) => !isOurs(name) && Buffer.byteLength(name) <= LONGEST_NAME && isPlain(value)
    )
  )
  const size = Buffer.byteLength(JSON.stringify(kept))
  return size <= LONGEST_HEADERS
    ? kept
    : { 'sagabox-headers-dropped': `the sender's headers were too long to be kept: ${size} bytes` }
}

function isAttempt(value: unknown): value is FailedAttempt {
  const { at, error } = (value ?? {}) as Partial<FailedAttempt>
  return (
    typeof at === 'string' && typeof error === 'string' && at.length <= 40 && error.length <= 300
  )
}

import { createHash } from 'node:crypto'
import { attemptsIn, causeIn, withoutAttempts, type FailedAttempt } from './failure.ts'
import { contentOf } from './content.ts'
import type { Message } from './message.ts'
import { joinJson, jsonTexts, run, statement, storableJson, storableText, write, type Tx } from './sql.ts'
import type { Delivery, Headers } from './transport.ts'

/** A message that its endpoint could not handle (`error`) or has no handler for (`skipped`), byte for byte. */
export interface DeadLetter {
  endpoint: string
  kind: 'error' | 'skipped'
  messageId: string | null
  /** Contract name, or the first type its envelope names. */
  type: string | null
  correlationId: string | null
  payload: Buffer
  contentType: string | null
  headers: Headers
  exception: string
  reason: string
  stack: string | null
  attempts: readonly FailedAttempt[]
  /** The id under which the inbox would know it; null when it cannot be read. */
  handledAs: string | null
  /** What it says, as the inbox would know it: see contentOf. */
  content: string | null
  /** Of the payload, which holds the message's id when it can be read: the same bytes are the same letter. */
  fingerprint: Buffer
}

/** Characters kept of one header, and of all of them as JSON. A stack has 6,000. */
const LONGEST_HEADER = 8000
const LONGEST_HEADERS = 64_000

/** The first tries say how it began, the last how it fails now: with those between, a letter retried for months would be megabytes. */
const [FIRST_ATTEMPTS, LAST_ATTEMPTS] = [10, 40]

function boundedAttempts(attempts: string): string {
  const most = FIRST_ATTEMPTS + LAST_ATTEMPTS
  return `case when jsonb_array_length(${attempts}) <= ${most} then ${attempts} else (
      select jsonb_agg(attempt order by place) from jsonb_array_elements(${attempts}) with ordinality as each (attempt, place)
      where place <= ${FIRST_ATTEMPTS} or place > jsonb_array_length(${attempts}) - ${LAST_ATTEMPTS}) end`
}

// Handled after all, by a copy of the message or on an operator's retry: then this is what a crash has sent twice.
const STORE = statement(`
  insert into dead_letter (endpoint, kind, message_id, message_type, correlation_id, payload, content_type, headers, exception, reason, stack, attempts, fingerprint, seen, status)
  select endpoint, kind, message_id, message_type, correlation_id, payload, content_type, headers, exception, reason, stack, attempts, fingerprint, seen,
    case when exists (select from inbox where inbox.message_id = letter.uuid and inbox.endpoint = letter.endpoint and coalesce(inbox.content = letter.content, true))
      then 'handled' else 'waiting' end
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[], ${jsonTexts(8)}::jsonb[], $9::text[], $10::text[], $11::text[], ${jsonTexts(12)}::jsonb[], $13::bytea[], $14::integer[], $15::uuid[], $16::bigint[])
    as letter (endpoint, kind, message_id, message_type, correlation_id, payload, content_type, headers, exception, reason, stack, attempts, fingerprint, seen, uuid, content)
  order by endpoint, fingerprint
  on conflict (endpoint, fingerprint) do update set
    kind = excluded.kind, headers = excluded.headers, exception = excluded.exception, reason = excluded.reason, stack = excluded.stack,
    attempts = ${boundedAttempts('dead_letter.attempts || excluded.attempts')}, status = excluded.status, seen = dead_letter.seen + excluded.seen, last_seen_at = now()
  returning fingerprint, status`)

const MARK_HANDLED = statement(`
  update dead_letter set status = 'handled' where endpoint = $2 and fingerprint = any($1::bytea[])`)

/**
 * @param message what the payload says, when it can be read
 * @param type what the sender of unread bytes calls their type
 */
export function deadLetterOf(endpoint: string, kind: DeadLetter['kind'], delivery: Delivery, message: Message | undefined, type: string | undefined): DeadLetter {
  const payload = typeof delivery.payload === 'string' ? Buffer.from(delivery.payload) : delivery.payload
  const messageId = message?.messageId ?? shortText(delivery.messageId)
  const { exception, reason, stack } = causeIn(delivery.headers)
  return {
    endpoint,
    kind,
    messageId,
    type: message?.contract.name ?? shortText(type),
    correlationId: message?.correlationId ?? null,
    payload,
    contentType: shortText(delivery.contentType),
    headers: withoutAttempts(delivery.headers),
    exception: storableText(exception),
    reason: storableText(reason),
    stack: stack === undefined ? null : storableText(stack),
    attempts: attemptsIn(delivery.headers),
    handledAs: message?.messageId ?? null,
    content: message ? contentOf(message) : null,
    fingerprint: fingerprintOf(payload)
  }
}

/**
 * Stores letters; one that is there already is brought up to date.
 * @returns those that wait for an operator, as not every one does: a message may have been handled after all
 */
export async function storeDeadLetters(tx: Tx, letters: readonly DeadLetter[]): Promise<DeadLetter[]> {
  // One statement cannot meet the same row twice.
  const byFingerprint = new Map<string, DeadLetter[]>()
  for (const letter of letters) byFingerprint.set(keyOf(letter), [...(byFingerprint.get(keyOf(letter)) ?? []), letter])
  const distinct = [...byFingerprint.values()].map((copies) => copies.at(-1)!)
  const rows = await run<{ fingerprint: Buffer; status: string }>(tx, STORE, [
    distinct.map((letter) => letter.endpoint),
    distinct.map((letter) => letter.kind),
    distinct.map((letter) => letter.messageId),
    distinct.map((letter) => letter.type),
    distinct.map((letter) => letter.correlationId),
    distinct.map((letter) => letter.payload),
    distinct.map((letter) => letter.contentType),
    joinJson(distinct.map((letter) => storableHeaders(letter.headers))),
    distinct.map((letter) => letter.exception),
    distinct.map((letter) => letter.reason),
    distinct.map((letter) => letter.stack),
    joinJson(distinct.map((letter) => storableJson(letter.attempts))),
    distinct.map((letter) => letter.fingerprint),
    distinct.map((letter) => byFingerprint.get(keyOf(letter))!.length),
    distinct.map((letter) => letter.handledAs),
    distinct.map((letter) => letter.content)
  ])
  const waiting = new Set(rows.filter(({ status }) => status === 'waiting').map(keyOf))
  return distinct.filter((letter) => waiting.has(keyOf(letter)))
}

function keyOf({ fingerprint }: { fingerprint: Buffer }): string {
  return fingerprint.toString('base64')
}

/** The endpoint has handled messages that operators had sent back. */
export function markHandled(tx: Tx, endpoint: string, payloads: readonly (Buffer | string)[]): void {
  void write(tx, MARK_HANDLED, [payloads.map(fingerprintOf), endpoint])
}

function fingerprintOf(payload: Buffer | string): Buffer {
  return createHash('sha256').update(payload).digest()
}

function shortText(text: string | undefined): string | null {
  return typeof text === 'string' && text !== '' ? storableText(text.slice(0, 255)) : null
}

/** Whoever put the letter there may have nested its headers deeper than they can be written, or made them as long as a message. */
function storableHeaders(headers: Headers): string {
  try {
    const text = storableJson(headers, (part) => (part.length > LONGEST_HEADER ? `${part.slice(0, LONGEST_HEADER)}…` : part))
    if (text.length <= LONGEST_HEADERS) return text
    return JSON.stringify({ 'sagabox-headers-dropped': `too long to be kept: ${text.length} characters of JSON, at most ${LONGEST_HEADERS}` })
  } catch (error) {
    return JSON.stringify({ 'sagabox-headers-dropped': `not to be written as JSON: ${(error as Error).message}` })
  }
}

import { createHash } from 'node:crypto'
import { contentHash } from '../message/content-hash.ts'
import { attemptsIn, causeIn, storedHeaders, type FailedAttempt } from './headers.ts'
import type { MessageReader } from '../message/envelope.ts'
import type { Message } from '../message/message.ts'
import { rawMessageId } from '../message/raw-reader.ts'
import {
  joinJson,
  jsonTexts,
  run,
  statement,
  storableJson,
  storableText,
  write,
  type Tx
} from '../postgres/sql.ts'
import type { Delivery, Headers } from '../transport/transport.ts'
import { typeName, typesNamedIn } from '../message/type-name.ts'

/**
 * A message that its endpoint could not handle (`error`) or has no handler for (`skipped`), byte
 * for byte.
 */
export interface DeadLetter {
  endpoint: string
  kind: 'error' | 'skipped'
  messageId: string | null
  /** See typeName. */
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
  /** What the inbox would know of it; null when it cannot be read. */
  content: string | null
  /**
   * Of the payload, which holds the message's id when it can be read: the same bytes are the same
   * letter.
   */
  fingerprint: Buffer
}

/**
 * Attempts of a letter that are kept, from its beginning and from its end: it may be sent back for
 * years.
 */
export const FIRST_ATTEMPTS = 5
export const LAST_ATTEMPTS = 20

const KEPT_ATTEMPTS = FIRST_ATTEMPTS + LAST_ATTEMPTS
const ATTEMPTS = `(dead_letter.attempts || excluded.attempts)`

// Handled after all, by a copy of the message or on an operator's retry: then this is what a crash
// has sent twice.
const STORE = statement(`
  insert into dead_letter (endpoint, kind, message_id, message_type, correlation_id, payload,
    content_type, headers, exception, reason, stack, attempts, fingerprint, seen, status)
  select endpoint, kind, message_id, message_type, correlation_id, payload, content_type, headers,
    exception, reason, stack, attempts, fingerprint, seen,
    case
      when exists (
        select from inbox where inbox.message_id = letter.uuid and inbox.endpoint = letter.endpoint
          and (inbox.content is null or inbox.content = letter.content)) then 'handled'
      when exists (
        select from dead_letter_undone as undone where undone.endpoint = letter.endpoint
          and undone.correlation_id = lower(letter.correlation_id)
            and letter.message_type = any(undone.answers)) then 'undone'
      else 'waiting'
    end
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::text[],
    ${jsonTexts(8)}::jsonb[], $9::text[], $10::text[], $11::text[], ${jsonTexts(12)}::jsonb[],
    $13::bytea[], $14::integer[], $15::uuid[], $16::uuid[])
    as letter (endpoint, kind, message_id, message_type, correlation_id, payload, content_type, headers, exception, reason, stack, attempts, fingerprint, seen, uuid, content)
  order by endpoint, fingerprint
  on conflict (endpoint, fingerprint) do update set
    kind = excluded.kind, message_type = excluded.message_type, headers = excluded.headers, exception = excluded.exception, reason = excluded.reason, stack = excluded.stack,
    attempts = case when jsonb_array_length(${ATTEMPTS}) <= ${KEPT_ATTEMPTS} then ${ATTEMPTS}
      else jsonb_path_query_array(${ATTEMPTS}, '$[0 to ${FIRST_ATTEMPTS - 1}, last - ${LAST_ATTEMPTS - 1} to last]') end,
    attempts_left_out = dead_letter.attempts_left_out + greatest(0, jsonb_array_length(${ATTEMPTS}) - ${KEPT_ATTEMPTS}),
    status = excluded.status, seen = dead_letter.seen + excluded.seen, last_seen_at = now()
  returning endpoint, fingerprint, status`)

const MARK_HANDLED = statement(`
  update dead_letter set status = 'handled' where endpoint = $2 and fingerprint = any($1::bytea[])`)

/**
 * @param message what the payload says, when it can be read
 * @param reader of the endpoint's messages
 */
export function deadLetterOf(
  endpoint: string,
  kind: DeadLetter['kind'],
  delivery: Delivery,
  message: Message | undefined,
  reader: Pick<MessageReader, 'find' | 'only'>
): DeadLetter {
  const payload =
    typeof delivery.payload === 'string' ? Buffer.from(delivery.payload) : delivery.payload
  const messageId = message?.messageId ?? shortText(delivery.messageId)
  const { exception, reason, stack } = causeIn(delivery.headers)
  return {
    endpoint,
    kind,
    messageId,
    type: shortText(message?.contract.name ?? unreadType(payload, reader)),
    correlationId: shortText(message?.correlationId),
    payload,
    contentType: shortText(delivery.contentType),
    headers: storedHeaders(delivery.headers),
    exception: storableText(exception),
    reason: storableText(reason),
    stack: stack === undefined ? null : storableText(stack),
    attempts: attemptsIn(delivery.headers),
    handledAs: message?.messageId ?? null,
    content: message ? contentHash(message) : null,
    fingerprint: fingerprintOf(
      payload,
      reader.only && (message?.messageId ?? rawMessageId(delivery.messageId))
    )
  }
}

/**
 * Stores letters; one that is there already is brought up to date.
 * @returns those that wait for an operator, as not every one does: a message may have been handled
 * after all
 */
export async function storeDeadLetters(
  tx: Tx,
  letters: readonly DeadLetter[]
): Promise<DeadLetter[]> {
  // One statement cannot meet the same row twice.
  const byFingerprint = new Map<string, DeadLetter[]>()
  for (const letter of letters)
    byFingerprint.set(keyOf(letter), [...(byFingerprint.get(keyOf(letter)) ?? []), letter])
  const distinct = [...byFingerprint.values()].map((copies) => copies.at(-1)!)
  const rows = await run<{ endpoint: string; fingerprint: Buffer; status: string }>(tx, STORE, [
    distinct.map((letter) => letter.endpoint),
    distinct.map((letter) => letter.kind),
    distinct.map((letter) => letter.messageId),
    distinct.map((letter) => letter.type),
    distinct.map((letter) => letter.correlationId),
    distinct.map((letter) => letter.payload),
    distinct.map((letter) => letter.contentType),
    joinJson(distinct.map((letter) => storableJson(letter.headers))),
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

/** The same bytes under two endpoints are two letters. */
function keyOf({ endpoint, fingerprint }: { endpoint: string; fingerprint: Buffer }): string {
  return `${fingerprint.toString('base64')} ${endpoint}`
}

/** The endpoint has handled messages that operators had sent back. */
export function markHandled(
  tx: Tx,
  endpoint: string,
  letters: readonly { payload: Buffer | string; message: Message }[]
): void {
  const fingerprints = letters.map(({ payload, message: { contract, messageId } }) =>
    fingerprintOf(payload, contract.foreign && messageId)
  )
  void write(tx, MARK_HANDLED, [fingerprints, endpoint])
}

/** @param rawId of what has no envelope: two messages may be the same bytes */
function fingerprintOf(payload: Buffer | string, rawId: string | undefined): Buffer {
  const hash = createHash('sha256').update(payload)
  return (rawId === undefined ? hash : hash.update(rawId)).digest()
}

/** The name of what could not be read: of its types, the one that the endpoint takes. */
function unreadType(
  payload: Buffer,
  reader: Pick<MessageReader, 'find' | 'only'>
): string | undefined {
  if (reader.only) return reader.only.name
  const types = typesNamedIn(payload)
  return (
    types.map((type) => reader.find(type)?.name).find((name) => name !== undefined) ??
    types.map(typeName)[0]
  )
}

function shortText(text: string | undefined): string | null {
  return typeof text === 'string' && text !== '' ? storableText(text.slice(0, 255)) : null
}

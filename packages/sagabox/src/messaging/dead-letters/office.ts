import type { Database } from '../postgres/database.ts'
import { typeName } from '../message/type-name.ts'
import type { Contract, Message } from '../message/message.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { UNAUDITED, type Audit } from '../postgres/audit.ts'
import { retryConflicts } from '../postgres/retry-conflicts.ts'
import { ask, type Tx } from '../postgres/sql.ts'
import { bringBack, putAway } from './deleted.ts'
import { edited, type Edited } from './edit.ts'
import { replayHeaders } from './headers.ts'
import {
  audit,
  KNOWN,
  lockLetter,
  mustBeOpen,
  NotAllowed,
  type KnownLetter
} from './known-letter.ts'
import { IS_LOST, isHere, lookForOpen, type DeadLetterFilter } from './list.ts'
import { sendBack } from './send-back.ts'
import type { Undo } from './undo.ts'

/** Other letters of a business transaction that are undone with one of it. */
const MOST_SIBLINGS = 5000

export interface OfficeOptions {
  /** The service's endpoints, whose letters it can send back; those of all when not given. */
  endpoints?: readonly string[]
  /** Endpoints of others, whose letters are collected here. */
  theirs?: readonly string[]
  /** What its endpoints take, to which a body that a person mends is held. */
  contracts?: readonly Contract[]
  /** Answers letters of business transactions that nobody remembers here. */
  undo?: Undo
}

/**
 * What operators do with one dead letter. Everything is audited, and everything that is sent goes
 * through the outbox.
 */
export class DeadLetterOffice {
  readonly #database: Database
  readonly #outbox: Outbox
  readonly #endpoints: readonly string[] | undefined
  readonly #theirs: readonly string[]
  readonly #undo: Undo | undefined
  readonly #contracts: readonly Contract[]

  constructor(database: Database, outbox: Outbox, options: OfficeOptions = {}) {
    const { endpoints, theirs = [], undo, contracts = [] } = options
    this.#contracts = contracts
    this.#database = database
    this.#outbox = outbox
    this.#endpoints = endpoints && [...endpoints, ...theirs]
    this.#theirs = theirs
    this.#undo = undo
  }

  /**
   * Sends one letter back to its endpoint, under its message id: the inbox protects whoever has
   * handled it already.
   * @returns undefined when there is no such letter; `lostSince` when it was sent back before, and
   * nothing was heard of it
   * @throws NotAllowed when it is under way, has ended, or belongs to an endpoint that is not here
   */
  retry(
    id: number,
    audited: Audit = UNAUDITED
  ): Promise<{ messageId: string | null; firstSeenAt: string; lostSince?: string } | undefined> {
    return this.#request(async (tx) => {
      const letter = await lockLetter(tx, id)
      if (!letter) return undefined
      mustBeOpen(letter)
      this.#mustBeHere(letter)
      await sendBack(this.#outbox, tx, [letter], null, this.#theirs)
      audited(tx)
      const { message_id: messageId, first_seen_at: firstSeenAt, retrying_since: since } = letter
      return {
        messageId,
        firstSeenAt: firstSeenAt.toISOString(),
        ...(letter.is_lost && { lostSince: since.toISOString() })
      }
    })
  }

  /**
   * Sends another body in place of a letter's, to its endpoint and under a new id. The letter has
   * ended then: what fails again is another one.
   * @returns the new id, and what is different; undefined when there is no such letter
   * @throws NotAllowed when it is under way, has ended, or nothing here takes it
   * @throws InvalidEdit when the body is not what the contract says
   */
  edit(
    id: number,
    body: Record<string, unknown>,
    why: string,
    audited: Audit = UNAUDITED
  ): Promise<Omit<Edited, 'payload'> | undefined> {
    return this.#request(async (tx) => {
      const letter = await lockLetter(tx, id)
      if (!letter) return undefined
      mustBeOpen(letter)
      this.#mustBeHere(letter)
      const { payload, ...made } = edited(letter, body, this.#contracts)
      await ask(tx, `update dead_letter set status = 'handled', retry_id = null where id = $1`, [
        id
      ])
      await audit(tx, 'edit', [letter], { why, ...made })
      this.#outbox.sendBack(tx, [
        {
          messageId: made.messageId,
          endpoint: letter.endpoint,
          payload,
          contentType: letter.content_type ?? undefined,
          headers: replayHeaders(letter.id, letter.headers),
          seconds: 0
        }
      ])
      audited(tx)
      return made
    })
  }

  /**
   * When the oldest letter that waits and fits was first seen, ISO 8601; undefined when none does,
   * as far as was looked.
   */
  async oldest(filter: DeadLetterFilter): Promise<string | undefined> {
    const { window, condition, values } = lookForOpen(filter, 0, ...isHere(this.#endpoints))
    // Letters are numbered as they are first seen.
    const [row]: { oldest: Date }[] = await this.#database.rows(
      `
        select first_seen_at as oldest from (${window}) as looked_at where ${condition}
          order by looked_at.id limit 1`,
      values
    )
    return row?.oldest.toISOString()
  }

  /**
   * Deletes a letter. It is kept whole for a while, and can be brought back.
   * @returns whether there was one
   * @throws NotAllowed while it is being retried
   */
  delete(id: number, why: string | undefined, audited: Audit = UNAUDITED): Promise<boolean> {
    return this.#request(async (tx) => {
      const letter = await lockLetter(tx, id)
      if (!letter) return false
      if (letter.status === 'retrying') mustBeOpen(letter)
      await audit(tx, 'delete', [letter], { why: why ?? null })
      await putAway(tx, id, why ?? null)
      audited(tx)
      return true
    })
  }

  /**
   * Brings a deleted letter back.
   * @returns whether there was one
   * @throws NotAllowed when the same message has become a dead letter again
   */
  restore(id: number, audited: Audit = UNAUDITED): Promise<boolean> {
    return this.#request(async (tx) => {
      const done = await bringBack(tx, id)
      if (done === undefined) return false
      if (done === 'again')
        throw new NotAllowed('The same message has become a dead letter again since')
      await audit(tx, 'restore', [(await lockLetter(tx, id))!], {})
      audited(tx)
      return true
    })
  }

  /**
   * Answers a letter whose business transaction nobody remembers here: what was done for it
   * elsewhere is undone. Other letters of the transaction, and those that the commands will be
   * answered by, need no operator then.
   * @returns what was sent, and the ids of the other letters; undefined when there is no such
   * letter
   * @throws NotAllowed when the transaction is known here, has no effects, or the letter is under
   * way or has ended
   */
  undo(
    id: number,
    reason: string,
    audited: Audit = UNAUDITED
  ): Promise<{ sent: Message[]; others: number[] } | undefined> {
    return this.#request(async (tx) => {
      const letter = await lockLetter(tx, id)
      if (!letter) return undefined
      mustBeOpen(letter)
      if (!this.#undo) throw new NotAllowed('No saga runs here whose effects could be undone')
      const { message_type: type, correlation_id: correlationId, endpoint, payload } = letter
      const sent = await this.#undo.commandsFor(tx, {
        type: type && typeName(type),
        correlationId,
        payload
      })
      this.#outbox.add(tx, sent)
      await ask(
        tx,
        `insert into dead_letter_undone (endpoint, correlation_id, answers, reason) values ($1, lower($2), $3, $4)
         on conflict (endpoint, correlation_id) do update set answers = excluded.answers,
           reason = excluded.reason, at = now()`,
        [endpoint, correlationId, this.#undo.answers, reason]
      )
      const siblings: KnownLetter[] = await ask(
        tx,
        `select ${KNOWN} from dead_letter where endpoint = $1 and correlation_id = $2 and id <> $3 and (status = 'waiting' or ${IS_LOST})
         order by id limit ${MOST_SIBLINGS} for update`,
        [endpoint, correlationId, id]
      )
      const undone = [letter, ...siblings]
      await ask(tx, `update dead_letter set status = 'undone' where id = any($1)`, [
        undone.map((one) => one.id)
      ])
      await audit(tx, 'undo', undone, {
        why: reason,
        sent: sent.map(({ contract, messageId }) => ({ type: contract.name, messageId }))
      })
      audited(tx)
      return { sent, others: siblings.map((one) => Number(one.id)) }
    })
  }

  #request<R>(work: (tx: Tx) => Promise<R>): Promise<R> {
    return retryConflicts(() => this.#outbox.transaction(work))
  }

  /**
   * @throws NotAllowed: what is sent to an endpoint that is no more waits in the outbox for ever
   */
  #mustBeHere({ endpoint }: KnownLetter): void {
    if (this.#endpoints && !this.#endpoints.includes(endpoint)) {
      throw new NotAllowed(
        `Its endpoint ${endpoint} is not here (${this.#endpoints.join(', ')} ${this.#endpoints.length > 1 ? 'are' : 'is'}): nobody would take it`
      )
    }
  }
}

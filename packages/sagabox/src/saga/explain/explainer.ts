import type { Database } from '../../messaging/postgres/database.ts'
import { MOST_IDS, type TraceQuestion } from '../../messaging/trace/trace.ts'
import type { Answered, AskServices } from './answered.ts'
import type { SagaDefinition } from '../define.ts'
import { endsOf } from '../machine/states.ts'
import { ofVersion } from '../run/versions.ts'
import { spokenIn } from './awaited.ts'
import { explain, type Explanation } from './explain.ts'
import { readInstance, type KnownInstance } from './instance.ts'
import { othersIn } from './others.ts'
import { timelineOf, type TracedMessage } from './timeline.ts'
import { UsualStays } from './usual.ts'

const NOBODY: Answered = { reports: new Map(), unknown: new Map() }

/** Explains the instances of one saga. */
export class SagaExplainer {
  readonly #database: Database
  readonly definition: SagaDefinition
  readonly #service: string
  readonly usual: UsualStays

  /** @param service that has the saga */
  constructor(database: Database, definition: SagaDefinition, service: string) {
    this.#database = database
    this.definition = definition
    this.#service = service
    this.usual = new UsualStays(database, definition.name)
  }

  /** See readInstance. */
  read(key: string): Promise<KnownInstance | undefined> {
    return readInstance(this.#database, this.definition.name, key)
  }

  /**
   * Why an instance does not move.
   * @param key its id, or what its messages call it
   * @returns undefined when there is no such instance
   */
  async explain(key: string, ask: AskServices): Promise<Explanation | undefined> {
    const known = await this.read(key)
    if (!known) return undefined
    const { row } = known
    const { definition } = this
    const facts = { ...known, definition, service: this.#service }
    const saga = ofVersion(definition, row.machine_version) ?? definition
    if (endsOf(saga).includes(row.state))
      return explain({ ...facts, ...NOBODY, usual: undefined, others: undefined })
    const usual = (await this.usual.byState()).get(row.state)
    const [answered, others] = await Promise.all([
      ask(questionAbout(known)),
      othersIn(this.#database, definition, row.state, row.saga_id, usual)
    ])
    return explain({ ...facts, ...answered, usual, others })
  }

  /**
   * The messages of an instance over all services, and who did not answer.
   * @param key its id, or what its messages call it
   * @returns undefined when there is no such instance
   */
  async messages(
    key: string,
    ask: AskServices
  ): Promise<{ messages: TracedMessage[]; unknown: string[] } | undefined> {
    const known = await this.read(key)
    if (!known) return undefined
    const question = questionAbout(known)
    const answered = await ask(question)
    const messages = timelineOf(known, this.definition, this.#service, question.ids, answered)
    return { messages, unknown: [...answered.unknown.keys()] }
  }
}

/** What services are asked about an instance: its newest messages. */
export function questionAbout({ row, steps }: KnownInstance): TraceQuestion {
  const ids = spokenIn(steps).map(({ messageId }) => messageId)
  // What started it comes first, and is what everything else follows from.
  return {
    ids: ids.length > MOST_IDS ? [ids[0]!, ...ids.slice(1 - MOST_IDS)] : ids,
    about: row.saga_id
  }
}

import { readFileSync } from 'node:fs'
import type { Static, TSchema } from 'typebox'
import { Check, Errors } from 'typebox/value'
import {
  EXIT,
  NotReachable,
  NotDone,
  WrongUsage,
  type Call,
  type Exit,
  type Option
} from './command.ts'
import { clean } from './text.ts'

/** Where `sagabox dev` and `npm start` listen. */
const DEFAULT_URL = 'http://127.0.0.1:3000'
/** An answer has to be complete after so long, ms. */
const ANSWER_MS = 15_000
/** A stream may be silent for so long, ms. */
const SILENCE_MS = 30_000
/** Largest answer that is kept in memory, bytes. */
const LARGEST_ANSWER = 32 * 1024 * 1024
/** Of an answer that is none of Sagabox's, as much is shown, characters. */
const SHOWN = 120

export const SERVER_OPTIONS: Readonly<Record<string, Option>> = {
  url: { value: 'URL', help: `of the server; SAGABOX_URL, else ${DEFAULT_URL}` },
  key: { value: 'KEY', help: 'sent as bearer token; SAGABOX_KEY, or the file SAGABOX_KEY_FILE' }
}

interface Problem {
  detail?: unknown
  title?: unknown
}

interface Question {
  method: string
  path: string
  body?: unknown
  also?: readonly number[]
}

/** A Sagabox server, asked by HTTP. It may be slow, broken, or somebody else's. */
export class Server {
  readonly #url: string
  readonly #headers: Record<string, string>
  readonly #interrupted: AbortSignal
  readonly #answerMs: number

  /** @throws WrongUsage when the address or the key cannot be one */
  constructor({ options, terminal }: Pick<Call, 'options' | 'terminal'>, answerMs = ANSWER_MS) {
    this.#answerMs = answerMs
    this.#url = readUrl(options.text('url') ?? terminal.setting('SAGABOX_URL') ?? DEFAULT_URL)
    const key = options.text('key') ?? terminal.setting('SAGABOX_KEY') ?? keyInFile(terminal)
    this.#headers = key === undefined ? {} : { authorization: `Bearer ${checkedKey(key)}` }
    this.#interrupted = terminal.interrupted
  }

  /**
   * Asks, and holds the answer to a schema.
   * @param also statuses whose answer has the same shape
   * @throws NotDone for 404, 409 and 422; WrongUsage for 400; NotReachable for all that is no answer
   */
  async get<T extends TSchema>(
    path: string,
    schema: T,
    query: Query = {},
    also: readonly number[] = []
  ): Promise<Static<T>> {
    return this.#answer({ method: 'GET', path: path + searchOf(query), also }, schema)
  }

  async post<T extends TSchema>(
    path: string,
    schema: T,
    body?: unknown,
    query: Query = {}
  ): Promise<Static<T>> {
    return this.#answer({ method: 'POST', path: path + searchOf(query), body }, schema)
  }

  async delete(path: string, query: Query = {}): Promise<void> {
    const limit = AbortSignal.timeout(this.#answerMs)
    const response = await this.#ask({ method: 'DELETE', path: path + searchOf(query) }, limit)
    await this.#text(response, limit)
  }

  /** Lines of a streamed answer, as they come. */
  async *lines(path: string, type: string, query: Query = {}): AsyncGenerator<string> {
    const silence = new Silence(SILENCE_MS)
    try {
      const response = await this.#ask(
        { method: 'GET', path: path + searchOf(query) },
        silence.signal
      )
      const found = response.headers.get('content-type') ?? 'nothing'
      if (!found.startsWith(type)) throw this.#foreign(path, `${found} instead of ${type}`)
      const decoder = new TextDecoder()
      let rest = ''
      for await (const chunk of this.#chunks(response, silence.signal)) {
        silence.broken()
        const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n')
        rest = parts.pop()!
        if (rest.length > LARGEST_ANSWER)
          throw this.#foreign(path, `a line of more than ${LARGEST_ANSWER} bytes`)
        yield* parts
      }
      if (rest !== '') yield rest
    } finally {
      silence.end()
    }
  }

  async #answer<T extends TSchema>(question: Question, schema: T): Promise<Static<T>> {
    const { path } = question
    const limit = AbortSignal.timeout(this.#answerMs)
    const response = await this.#ask(question, limit)
    const text = await this.#text(response, limit)
    let value: unknown
    try {
      value = JSON.parse(text)
    } catch {
      throw this.#foreign(path, `${text.slice(0, SHOWN) || 'nothing'} instead of JSON`)
    }
    if (Check(schema, value)) return value
    const [first] = Errors(schema, value)
    throw this.#foreign(path, `another shape: ${first?.instancePath || 'it'} ${first?.message}`)
  }

  async #ask({ method, path, body, also = [] }: Question, limit: AbortSignal): Promise<Response> {
    const url = this.#url + path
    let response: Response
    try {
      response = await fetch(url, {
        method,
        redirect: 'manual',
        headers: {
          ...this.#headers,
          ...(body !== undefined && { 'content-type': 'application/json' })
        },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        signal: AbortSignal.any([limit, this.#interrupted])
      })
    } catch (error) {
      throw this.#unreachable(error as Error, limit)
    }
    if (response.ok || also.includes(response.status)) return response
    throw await this.#refusal(response, path, limit)
  }

  async #refusal(response: Response, path: string, limit: AbortSignal): Promise<Error> {
    const { status, headers } = response
    if (status >= 300 && status < 400) {
      await response.body?.cancel()
      const target = clean((headers.get('location') ?? 'nowhere').slice(0, SHOWN))
      return this.#foreign(path, `${status}, which leads to ${target}: give its address by --url`)
    }
    const text = await this.#text(response, limit)
    if (status === 401 || status === 403)
      return new NotReachable(
        `${this.#url} does not let you: ${sentenceOf(text) ?? status}. Expected a key that may, by --key, SAGABOX_KEY or SAGABOX_KEY_FILE`
      )
    const sentence = sentenceOf(text)
    if (sentence === undefined)
      return this.#foreign(path, `${status} without a problem document: ${text.slice(0, SHOWN)}`)
    if (status === 400) return new WrongUsage(sentence)
    if (status === 404 || status === 409 || status === 422) return new NotDone(sentence)
    return new NotReachable(`${this.#url} answers ${status}: ${sentence}`)
  }

  async #text(response: Response, limit: AbortSignal): Promise<string> {
    const decoder = new TextDecoder()
    let [text, bytes] = ['', 0]
    for await (const chunk of this.#chunks(response, limit)) {
      bytes += chunk.length
      if (bytes > LARGEST_ANSWER)
        throw new NotReachable(
          `${this.#url} answers more than ${LARGEST_ANSWER} bytes; ask for less, by --limit`
        )
      text += decoder.decode(chunk, { stream: true })
    }
    return text
  }

  async *#chunks(response: Response, limit: AbortSignal): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) yield chunk
    } catch (error) {
      throw this.#unreachable(error as Error, limit)
    }
  }

  #unreachable(error: Error, limit: AbortSignal): Error {
    if (this.#interrupted.aborted) return new NotDone('interrupted')
    if (limit.aborted)
      return new NotReachable(
        `${this.#url} does not answer in time. Is it busy, or is something else listening there?`
      )
    const { code, message } = (error.cause ?? error) as NodeJS.ErrnoException
    return new NotReachable(
      `${this.#url} cannot be reached: ${message || code}. Start it (sagabox dev, npm start), or give its address by --url or SAGABOX_URL`
    )
  }

  #foreign(path: string, what: string): NotReachable {
    return new NotReachable(
      `${this.#url}${path.split('?', 1)[0]} answers ${clean(what)}. Is this the address of a Sagabox server, and of this version?`
    )
  }
}

/**
 * Runs what goes on until it ends or Ctrl-C does.
 * @returns what the work returned; 0 after Ctrl-C, which says so
 */
export async function untilInterrupted(
  { terminal }: Pick<Call, 'terminal'>,
  work: () => Promise<Exit>
): Promise<Exit> {
  try {
    return await work()
  } catch (error) {
    if (!terminal.interrupted.aborted) throw error
    terminal.note('Stopped watching; nothing else was stopped')
    return EXIT.ok
  }
}

/** Aborts when nothing has come for a while. */
class Silence {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout

  constructor(ms: number) {
    this.#timer = setTimeout(() => this.#controller.abort(), ms)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  broken(): void {
    this.#timer.refresh()
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}

export type Query = Readonly<Record<string, string | number | undefined>>

function searchOf(query: Query): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined)
  if (given.length === 0) return ''
  const search = new URLSearchParams(
    given.map(([name, value]): [string, string] => [name, String(value)])
  )
  return `?${search.toString()}`
}

/** What a problem document says; undefined when it is none. */
function sentenceOf(text: string): string | undefined {
  try {
    const { detail, title } = JSON.parse(text) as Problem
    const said = typeof detail === 'string' ? detail : title
    return typeof said === 'string' ? said : undefined
  } catch {
    return undefined
  }
}

function readUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol))
    throw new WrongUsage(`${text} is no address; expected one like ${DEFAULT_URL}`)
  if (url.username || url.password)
    throw new WrongUsage('the address holds a password; expected it without one, and --key')
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

function keyInFile(terminal: Call['terminal']): string | undefined {
  const file = terminal.setting('SAGABOX_KEY_FILE')
  if (file === undefined) return undefined
  try {
    return readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new WrongUsage(`SAGABOX_KEY_FILE cannot be read: ${(error as Error).message}`)
  }
}

/** Never shown, not even when it cannot be one. */
function checkedKey(key: string): string {
  if (/^[\x21-\x7e]{1,4096}$/.test(key)) return key
  throw new WrongUsage('the key is empty, too long, or has spaces or characters beyond ASCII')
}

import { Check, Errors } from 'typebox/value'
import type { ServiceReport } from '../messaging/trace/report.ts'
import type { TraceQuestion } from '../messaging/trace/trace.ts'
import type { Colleague } from './colleagues.ts'
import { Report } from './report-schema.ts'

/** Largest answer, bytes: a hundred messages take a tenth of it. */
const LARGEST_ANSWER = 1024 * 1024
/** After so long nothing more is read, ms. */
const READ_MS = 2000

/** A service of another process, asked by its own HTTP routes. */
export class Peer implements Colleague {
  readonly name: string
  readonly #url: string

  /** @param url of its operators' routes: `https://stock.internal:3000`, with a prefix if need be */
  constructor(name: string, url: string) {
    this.name = name
    this.#url = url.replace(/\/+$/, '')
  }

  async report(
    { ids, about }: TraceQuestion,
    authorization: string | undefined
  ): Promise<ServiceReport> {
    const query = new URLSearchParams({ ids: ids.join(','), ...(about !== undefined && { about }) })
    const response = await fetch(`${this.#url}/ops/${this.name}/messages?${query.toString()}`, {
      // Whoever asked is known to this address, and to no other that it may name.
      redirect: 'error',
      signal: AbortSignal.timeout(READ_MS),
      headers: {
        accept: 'application/json',
        ...(authorization !== undefined && { authorization })
      }
    }).catch((error: Error) => {
      throw new Error(
        `it cannot be reached (${(error.cause as Error | undefined)?.message ?? error.message})`
      )
    })
    if (!response.ok) {
      await response.body?.cancel()
      throw new Error(`it answered ${response.status}`)
    }
    const text = await boundedText(response)
    const found = parse(text)
    if (Check(Report, found)) return found
    const [first] = Errors(Report, found)
    throw new Error(
      `its answer has another shape: ${first?.instancePath || 'it'} ${first?.message}`
    )
  }
}

async function boundedText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of response.body ?? []) {
    bytes += (chunk as Uint8Array).length
    if (bytes > LARGEST_ANSWER) throw new Error(`its answer has more than ${LARGEST_ANSWER} bytes`)
    chunks.push(chunk as Uint8Array)
  }
  return Buffer.concat(chunks).toString()
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error('its answer is no JSON')
  }
}

import { createReadStream } from 'node:fs'
import type { SagaDefinition } from '../index.ts'
import { readRecording, RecordingsCheck, type Finding, type RecordingsReport } from '../testing.ts'
import { NotReachable, Options, WrongUsage, type Call } from './command.ts'
import { Server } from './server.ts'
import { clean } from './text.ts'

/** Longest line, in characters: a line is held in memory. */
const LONGEST_LINE = 64 * 1024 * 1024
/** Between two words on how far it is, ms. */
const PROGRESS_MS = 2000

/**
 * Holds recorded instances to a saga's machine.
 * @param source a file, an address of a server, or the address of its export with a filter
 * @throws WrongUsage when a line is no recording; NotReachable when it cannot be read to its end
 */
export async function checkRecordings(
  source: string,
  saga: SagaDefinition,
  call: Call
): Promise<RecordingsReport> {
  const check = new RecordingsCheck(saga)
  let number = 0
  let told = Date.now()
  for await (const line of linesOf(source, call)) {
    number++
    try {
      check.add(readRecording(line))
    } catch (error) {
      throw new WrongUsage(`${source}, line ${number}: ${(error as Error).message}`, {
        cause: error
      })
    }
    if (Date.now() - told < PROGRESS_MS) continue
    told = Date.now()
    call.terminal.note(`${number.toLocaleString('en')} instances read …`)
  }
  return check.report()
}

function linesOf(source: string, { options, terminal }: Call): AsyncIterable<string> {
  if (!/^https?:/i.test(source)) return linesOfFile(source)
  if (!URL.canParse(source)) throw new WrongUsage(`${source} is no address`)
  const { pathname, search, href } = new URL(source)
  const found = /^(.*?)(\/sagas(?:\/[^/]+)?\/export)$/.exec(pathname)
  const root = href.slice(0, href.length - search.length - (found?.[2]?.length ?? 0))
  const given = new Map<string, string>([['url', root]])
  const key = options.text('key')
  if (key !== undefined) given.set('key', key)
  const server = new Server({ options: new Options(given), terminal })
  return server.lines(`${found?.[2] ?? '/sagas/export'}${search}`, 'application/x-ndjson')
}

async function* linesOfFile(file: string): AsyncGenerator<string> {
  let rest = ''
  try {
    for await (const chunk of createReadStream(file, 'utf8')) {
      const lines = (rest + String(chunk)).split('\n')
      rest = lines.pop()!
      if (rest.length > LONGEST_LINE)
        throw new Error(
          `a line is longer than ${LONGEST_LINE} characters: expected one JSON object a line`
        )
      yield* lines
    }
  } catch (error) {
    throw new NotReachable(`${file} could not be read to its end: ${(error as Error).message}`, {
      cause: error
    })
  }
  if (rest !== '') yield rest
}

/** What was found, for people. */
export function describeReport(report: RecordingsReport, source: string): string[] {
  const { saga, version, instances, consistent, notReplayed } = report
  const { diverged, stranded, migrating } = report
  const sum = (findings: readonly Finding[]) =>
    String(findings.reduce((total, { count }) => total + count, 0)).padStart(7)
  const part = (title: string, findings: readonly Finding[]) =>
    findings.length === 0
      ? []
      : [
          '',
          title,
          ...findings.flatMap(({ what, count, samples }) => [
            `  ${String(count).padStart(7)}  ${clean(what)}`,
            `           e.g. ${clean(samples.join(', '))}`
          ])
        ]
  return [
    `Saga ${saga}, version ${version}: ${instances} instances read from ${source}`,
    `  ${String(consistent).padStart(7)}  replay as recorded`,
    ...(notReplayed > 0
      ? [
          `  ${String(notReplayed).padStart(7)}  are taken as recorded, wholly or in part: by versions of the machine that are not here`
        ]
      : []),
    `  ${sum(diverged)}  diverge`,
    `  ${sum(stranded)}  are stranded: under way, and no machine here can move them`,
    ...(migrating.length > 0
      ? [`  ${sum(migrating)}  will be migrated by what happens to them next`]
      : []),
    ...part('Divergence, by the first difference', diverged),
    ...part('Stranded, by state', stranded),
    ...part('Migration, by state', migrating)
  ]
}

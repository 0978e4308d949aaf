// `npm run saga:check -- <url or file> [module]`: holds recorded sagas to the machine in the
// working tree. Exit code 0 when all is well, 1 when anything diverges or is stranded, 2 when it
// could not be checked.
import { createReadStream } from 'node:fs'
import { pathToFileURL } from 'node:url'
import {
  type Finding,
  readRecording,
  RecordingsCheck,
  type RecordingsReport
} from 'sagabox/testing'
import type { SagaDefinition } from 'sagabox'
import { orderSaga } from '../src/saga/order-saga.ts'

const USAGE = `Usage: npm run saga:check -- <url or file> [module]

  url      of a running order service, http://127.0.0.1:3000, or of its export with a filter, http://127.0.0.1:3000/sagas/export?limit=1000
  file     an export, one JSON object a line
  module   a file that exports a saga made by defineSaga; the order saga when not given`

/** Longest line, in characters: a line is held in memory. */
const LONGEST_LINE = 64 * 1024 * 1024
/** Between two words on how far it is, ms. */
const PROGRESS_MS = 2000

try {
  const [source, module, ...more] = process.argv.slice(2)
  if (!source || more.length > 0) throw new Error(USAGE)
  const report = await checkAll(source, module === undefined ? orderSaga(30) : await sagaOf(module))
  console.log(describe(report, source))
  process.exitCode = report.diverged.length + report.stranded.length > 0 ? 1 : 0
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 2
}

async function checkAll(source: string, saga: SagaDefinition): Promise<RecordingsReport> {
  const check = new RecordingsCheck(saga)
  let number = 0
  let told = Date.now()
  for await (const line of linesOf(await open(source), source)) {
    number++
    try {
      check.add(readRecording(line))
    } catch (error) {
      throw new Error(`${source}, line ${number}: ${(error as Error).message}`, { cause: error })
    }
    if (Date.now() - told < PROGRESS_MS) continue
    told = Date.now()
    console.error(`${number.toLocaleString('en')} instances read …`)
  }
  return check.report()
}

async function sagaOf(module: string): Promise<SagaDefinition> {
  const exported = Object.values(
    (await import(pathToFileURL(module).href)) as Record<string, unknown>
  )
  const sagas = exported.filter(
    (value): value is SagaDefinition =>
      typeof value === 'object' && value !== null && 'machine' in value && 'startedBy' in value
  )
  if (sagas.length !== 1)
    throw new Error(
      `${module} must export one saga made by defineSaga, and exports ${sagas.length}`
    )
  return sagas[0]!
}

async function open(source: string): Promise<AsyncIterable<Uint8Array | string>> {
  if (!/^https?:/i.test(source)) return createReadStream(source)
  const url = new URL(source)
  if (url.pathname === '/') url.pathname = '/sagas/export'
  const response = await fetch(url).catch((error: Error) => {
    throw new Error(
      `${url.href} does not answer: ${(error.cause as Error | undefined)?.message ?? error.message}`,
      { cause: error }
    )
  })
  const type = response.headers.get('content-type') ?? 'nothing'
  if (response.status !== 200)
    throw new Error(
      `${url.href} answered ${response.status}: ${(await response.text()).slice(0, 500)}`
    )
  if (!type.startsWith('application/x-ndjson') || !response.body)
    throw new Error(
      `${url.href} answered ${type}; expected the application/x-ndjson of an order service's /sagas/export`
    )
  return response.body as AsyncIterable<Uint8Array>
}

async function* linesOf(
  chunks: AsyncIterable<Uint8Array | string>,
  source: string
): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  try {
    for await (const chunk of chunks) {
      const lines = (
        rest + (typeof chunk === 'string' ? chunk : decoder.decode(chunk, { stream: true }))
      ).split('\n')
      rest = lines.pop()!
      if (rest.length > LONGEST_LINE)
        throw new Error(
          `a line is longer than ${LONGEST_LINE} characters: expected one JSON object a line`
        )
      yield* lines
    }
  } catch (error) {
    throw new Error(`${source} could not be read to its end: ${(error as Error).message}`, {
      cause: error
    })
  }
  if (rest !== '') yield rest
}

function describe(
  {
    saga,
    version,
    instances,
    consistent,
    notReplayed,
    diverged,
    stranded,
    migrating
  }: RecordingsReport,
  source: string
): string {
  const sum = (findings: readonly Finding[]) =>
    findings.reduce((total, { count }) => total + count, 0)
  const part = (title: string, findings: readonly Finding[]) =>
    findings.length === 0
      ? []
      : [
          '',
          title,
          ...findings.map(
            ({ what, count, samples }) =>
              `  ${String(count).padStart(7)}  ${what}\n           e.g. ${samples.join(', ')}`
          )
        ]
  return [
    `Saga ${saga}, version ${version}: ${instances} instances read from ${source}`,
    `  ${String(consistent).padStart(7)}  replay as recorded`,
    ...(notReplayed > 0
      ? [
          `  ${String(notReplayed).padStart(7)}  are taken as recorded, wholly or in part: by versions of the machine that are not here`
        ]
      : []),
    `  ${String(sum(diverged)).padStart(7)}  diverge`,
    `  ${String(sum(stranded)).padStart(7)}  are stranded: under way, and no machine here can move them`,
    ...(migrating.length > 0
      ? [`  ${String(sum(migrating)).padStart(7)}  will be migrated by what happens to them next`]
      : []),
    ...part('Divergence, by the first difference', diverged),
    ...part('Stranded, by state', stranded),
    ...part('Migration, by state', migrating)
  ].join('\n')
}

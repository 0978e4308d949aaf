import type { PathStep, SagaDetail } from './types.ts'

/** A story of `sagabox/testing` that tells what happened to an instance, as a test. */
export function testOf(
  saga: string,
  { sagaId, state }: SagaDetail,
  steps: readonly PathStep[]
): string {
  // By hand: no machine is asked about these.
  const told = steps.filter(({ event }) => !/^(retry|migrate|drop deferred)$/.test(event))
  const names = told.flatMap(({ event, sent }) => [event, ...sent.map(nameOf)]).filter(isMessage)
  return [
    `import { test } from 'node:test'`,
    `import { tell } from 'sagabox/testing'`,
    `import { ${[camel(saga), ...new Set(names)].join(', ')} } from './…'`,
    '',
    `const { when } = tell(${camel(saga)})`,
    '',
    `// What happened to ${sagaId}. The fields of the messages are yours to fill in.`,
    `test('${saga} comes to ${state}', () => {`,
    ...told.flatMap((step, index) => lineOf(step, told[index - 1])),
    '})',
    ''
  ].join('\n')
}

function lineOf(step: PathStep, before: PathStep | undefined): string[] {
  const { event, at, to, sent } = step
  const waited = before
    ? Math.max(1, Math.ceil((Date.parse(at) - Date.parse(before.at)) / 1000))
    : 0
  const came = isMessage(event)
    ? `when(${event}({ /* … */ }))`
    : `advance('${waited}s') // ${event}`
  const names = sent.map(nameOf)
  return [
    before ? `    .${came}` : `  ${came}`,
    `    .then('${to}'${names.length > 0 ? `, [${names.join(', ')}]` : ''})`
  ]
}

function nameOf(sent: PathStep['sent'][number]): string {
  return typeof sent === 'string' ? sent : sent.type
}

/** Timers are events, too: `after 30 s`. */
function isMessage(event: string): boolean {
  return /^[A-Za-z_$][\w$]*$/.test(event)
}

function camel(name: string): string {
  return name.replaceAll(
    /[^A-Za-z0-9]+(.)?/g,
    (_, next: string | undefined) => next?.toUpperCase() ?? ''
  )
}

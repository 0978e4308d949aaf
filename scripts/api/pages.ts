// Pages of the reference, made from doc comments and from docs/examples/api.
import type { Item, Surface } from './extract.ts'

/** A piece of docs/examples/api that shows some exports. */
export interface Example {
  shows: readonly string[]
  code: string
}

/** Headings by where a declaration is, the first that fits; errors have one of their own. */
const HEADINGS: readonly [path: RegExp, heading: string][] = [
  [/messaging\/(endpoint|inbox|errors)\//, 'Handlers'],
  [/messaging\/request\//, 'Requests'],
  [/messaging\/(message)\//, 'Messages'],
  [/messaging\/(transport|rabbitmq)\//, 'Transports'],
  [/messaging\/(postgres|outbox)\//, 'Database and outbox'],
  [/\/define-saga\.d/, 'Sagas'],
  [/\/saga\/steps\//, 'Sagas in steps'],
  [/\/saga\//, 'Sagas'],
  [/\/(service|http|embedded|testing)\/|./, 'Services']
]
const ORDER = [
  'Messages',
  'Handlers',
  'Sagas',
  'Sagas in steps',
  'Services',
  'Requests',
  'Database and outbox',
  'Transports',
  'Errors'
]

/** Reads the pieces of a file: each begins with `// Example: name, name`. */
export function examplesIn(source: string): Example[] {
  return source
    .split(/^\/\/ Example: /m)
    .slice(1)
    .map((piece) => {
      const [names, ...lines] = piece.split('\n')
      const code = lines.join('\n').replace(/^\/\/ End of examples\n.*/ms, '')
      return { shows: names!.split(', '), code: code.trim() }
    })
}

/** The page of a door. */
export function pageOf({ door, items }: Surface, examples: readonly Example[]): string {
  const path = door === 'index' ? 'sagabox' : `sagabox/${door}`
  const named = grouped(items.toSorted(valuesFirst), ({ name }) => name!)
  const sections = grouped(named.values(), (same) =>
    door === 'index' ? headingOf(same[0]!) : isError(same[0]!) ? 'Errors' : ''
  )
  const parts = ['', ...ORDER].flatMap((heading) => {
    const found = sections.get(heading)
    if (!found) return []
    const level = heading === '' ? '##' : '###'
    const body =
      heading === 'Errors'
        ? [errorsOf(found), ...shownFirst(found, examples)]
        : found.map((same) =>
            [`${level} \`${same[0]!.name}\``, ...entry(same, examples)].join('\n\n')
          )
    return [...(heading === '' ? [] : [`## ${heading}`]), ...body]
  })
  return `${[`# \`${path}\``, intro(path), ...parts].join('\n\n')}\n`
}

function grouped<T>(items: Iterable<T>, by: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const key = by(item)
    groups.set(key, [...(groups.get(key) ?? []), item])
  }
  return groups
}

function intro(path: string): string {
  return `What \`import … from '${path}'\` has. Made from doc comments by \`npm run api\`; the examples are run by\nthe tests. What counts as a change of it: [versions](../versions.md).`
}

/** What is called, before the types that it names. */
function valuesFirst(one: Item, other: Item): number {
  const isType = ({ kind }: Item) => Number(kind === 'Interface' || kind === 'TypeAlias')
  return isType(one) - isType(other)
}

function headingOf(item: Item): string {
  if (isError(item)) return 'Errors'
  return HEADINGS.find(([path]) => path.test(item.fileUrlPath ?? ''))![1]
}

/** Not their base, which has an entry of its own. */
function isError(item: Item): boolean {
  return item.kind === 'Class' && / extends (?!Error\b)/.test(signatureOf(item))
}

function entry(same: readonly Item[], examples: readonly Example[]): string[] {
  const example = examples.find(({ shows }) => shows.includes(same[0]!.name!))
  return [...same.flatMap(described), ...(example ? [shownUnder(same[0]!.name!, example)] : [])]
}

/** Printed under the first name; from the others a link leads there. */
function shownUnder(name: string, { shows, code }: Example): string {
  if (shows[0] === name) return `Example:\n\n${fenced(code)}`
  return `Example: under [\`${shows[0]}\`](#${shows[0]!.toLowerCase()}).`
}

function shownFirst(found: Item[][], examples: readonly Example[]): string[] {
  return examples
    .filter(({ shows }) => found.some(([item]) => item!.name === shows[0]))
    .map(({ code }) => `Example:\n\n${fenced(code)}`)
}

function described(item: Item): string[] {
  const { summary, tags } = commentOf(item)
  const members = (item.members ?? []).filter(
    ({ releaseTag, kind }) => releaseTag !== 'Internal' && kind !== 'Constructor'
  )
  const head = members.length > 0 ? [] : [fenced(signatureOf(item))]
  return [...head, summary, ...listed(tags), ...tableOf(members)].filter((part) => part !== '')
}

function tableOf(members: readonly Item[]): string[] {
  if (members.length === 0) return []
  const rows = members.map((member) => {
    const { summary, tags } = commentOf(member)
    const what = [summary, ...tags.map(sentenceOf)].filter((part) => part !== '').join(' ')
    return `| \`${cell(signatureOf(member).replaceAll(/\s+/g, ' '))}\` | ${cell(what)} |`
  })
  return [['| member | what it is |', '|---|---|', ...rows].join('\n')]
}

function errorsOf(found: Item[][]): string {
  const rows = found.map(
    ([item]) => `| \`${item!.name}\` | ${cell(commentOf(item!).summary.replaceAll('\n', ' '))} |`
  )
  return [
    'Each is a `SagaboxError` with a `code`: [error codes](../error-codes.md).',
    ['| class | when |', '|---|---|', ...rows].join('\n')
  ].join('\n\n')
}

interface Tag {
  tag: string
  text: string
}

function listed(tags: readonly Tag[]): string[] {
  return tags.length === 0 ? [] : [tags.map((tag) => `- ${sentenceOf(tag)}`).join('\n')]
}

function sentenceOf({ tag, text }: Tag): string {
  const said = text.replace(/\.?$/, '.')
  if (tag === 'throws') return `Throws ${said}`
  if (tag === 'returns') return `Returns ${said}`
  const [, name, what] = /^(\w+) (?:- )?(.*)$/s.exec(said) ?? []
  return `\`${name}\`: ${what}`
}

function commentOf({ docComment = '' }: Item): { summary: string; tags: Tag[] } {
  const text = docComment
    .replace(/^\/\*\*/, '')
    .replace(/\*\/\s*$/, '')
    .replaceAll(/^ *\* ?/gm, '')
  const [summary, ...blocks] = text.split(
    /(?<=^|\s)@(?=(?:param|throws|returns|internal|example)\b)/
  )
  const tags = blocks
    .map((block) => /^(\w+)\s*(.*)$/s.exec(block.trim())!)
    .map(([, tag, said]) => ({ tag: tag!, text: said!.replaceAll(/\s+/g, ' ') }))
  return {
    summary: summary!.trim(),
    tags: tags.filter(({ tag }) => ['param', 'throws', 'returns'].includes(tag))
  }
}

function signatureOf({ excerptTokens = [] }: Item): string {
  return excerptTokens
    .map(({ text }) => text)
    .join('')
    .trim()
    .replace(/^export (declare )?/, '')
    .replace(/;$/, '')
}

function fenced(code: string): string {
  return `\`\`\`ts\n${code}\n\`\`\``
}

function cell(text: string): string {
  return text.replaceAll('\n', ' ').replaceAll('|', '\\|')
}

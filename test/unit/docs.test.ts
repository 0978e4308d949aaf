// Holds what is written to what is there: links, paths, snippets, settings, tables, the machine.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { trip } from '../../docs/examples/trip.ts'
import { describe } from '../../packages/sagabox/src/saga/inspect/diagram.ts'
import { orderSaga } from '../../src/saga/order-saga.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const SKIPPED = new Set(['node_modules', 'dist', '.git', '.tap', '.data'])
const files = filesIn('')
const pages = files.filter((file) => file.endsWith('.md'))
const names = new Set(files.map((file) => basename(file)))

t.test('every relative link leads to a file and a heading that exist', async (t) => {
  const broken = pages.flatMap((page) =>
    linksIn(page)
      .filter((link) => !leadsSomewhere(page, link))
      .map((link) => `${page}: ${link}`)
  )
  t.same(broken, [])
})

t.test('every page is reached from the README', async (t) => {
  const reached = new Set(['README.md'])
  for (const page of reached)
    for (const link of linksIn(page)) {
      const path = join(dirname(page), link.split('#', 1)[0]!)
      if (pages.includes(path)) reached.add(path)
    }
  const lost = pages.filter((page) => page.startsWith('docs/') && !reached.has(page))
  t.same(lost, [])
})

t.test('every path in backticks exists', async (t) => {
  const missing = pages.flatMap((page) =>
    [...prose(page).matchAll(/`([^`\n]+)`/g)]
      .flatMap(([, code]) => code!.split(' '))
      .filter((word) => isPath(word) && !existsAsPath(word))
      .map((word) => `${page}: ${word}`)
  )
  t.same(missing, [])
})

t.test('every page that sources name exists', async (t) => {
  const sources = files.filter((file) => /\.(ts|mts|mjs|cjs|sql|txt|yml)$/.test(file))
  const missing = sources.flatMap((file) =>
    [...read(file).matchAll(/(?<![\w/.-])(?:docs\/[\w/-]+\.\w+|[A-Z]{5,}\.md)/g)]
      .map(([path]) => path)
      .filter((path) => !exists(path) && !exists(join(dirname(file), path)))
      .map((path) => `${file}: ${path}`)
  )
  t.same(missing, [])
})

t.test('the README is read in one go', async (t) => {
  t.ok(linesOf('README.md').length <= 200, 'at most 200 lines')
})

t.test('every snippet is in the file that it names', async (t) => {
  const printed = pages.filter((page) =>
    /^(README|docs\/(tutorial|how-to)|packages\/[\w-]+\/README)/.test(page)
  )
  const snippets = printed.flatMap(snippetsIn)
  t.ok(snippets.length >= 4)
  t.same(
    snippets.map(problemOf).filter((problem) => problem !== undefined),
    []
  )
})

t.test('the lines of the travel agency are counted as its page says', async (t) => {
  const linesOfCode = (name: string) =>
    linesOf(`docs/examples/travel/${name}.ts`).filter((line) => !/^\s*(\/\/|\/\*\*|$)/.test(line))
      .length
  const sum = (...counted: string[]) => counted.map(linesOfCode).reduce((a, b) => a + b)
  const [saga, wiring] = [sum('trip-saga'), sum('system', 'main')]
  const all = saga + wiring + sum('contracts', 'trip', 'flight', 'hotel')
  t.match(read('docs/tutorial/travel.md'), `| ${saga} | ${wiring} | ${all} |`)
})

t.test('the settings page lists exactly the variables that are read', async (t) => {
  const variables: string[] = Object.values(
    JSON.parse(read('config/custom-environment-variables.json')) as Record<string, string>
  )
  const listed = firstCells('docs/reference/settings.md', 'variable')
  t.same(listed.toSorted(), [...variables, 'NODE_ENV'].toSorted())
})

t.test('the page of tables lists exactly the tables that migrations make', async (t) => {
  const made = files
    .filter((file) => file.endsWith('.sql') && /^(packages\/sagabox\/)?migrations\//.test(file))
    .flatMap((file) => [...read(file).matchAll(/^create table (\w+)/gm)].map(([, name]) => name!))
  t.same(firstCells('docs/reference/tables.md', 'table').toSorted(), made.toSorted())
})

t.test('the pictures of machines are what the machines say', async (t) => {
  const drawn = {
    'docs/reference/order-machine.md': orderSaga(30),
    'docs/how-to/write-a-saga-in-steps.md': trip
  }
  for (const [page, saga] of Object.entries(drawn)) {
    const [, picture] = /```mermaid\n([\s\S]*?)\n```/.exec(read(page))!
    t.equal(picture, describe(saga).mermaid, page)
  }
})

interface Snippet {
  page: string
  /** The comment before it: `docs/examples/parcel.ts`, or `docs/examples/parcel.ts, whole`. */
  source: string | undefined
  text: string
}

/** TypeScript that a page prints. */
function snippetsIn(page: string): Snippet[] {
  return [
    ...read(page).matchAll(/(?:^<!-- (\S+\.ts(?:, whole)?) -->\n)?^```ts\n(.*?)^```$/gms),
    ...read(page).matchAll(/^<!-- (\S+\.sql(?:, whole)?) -->\n^```sql\n(.*?)^```$/gms)
  ].map(([, source, text]) => ({ page, source, text: text! }))
}

/** A line `// …` stands for what was left out. */
function problemOf({ page, source, text }: Snippet): string | undefined {
  if (!source) return `${page}: a snippet names no file: ${text.split('\n', 1)[0]}`
  const [file, whole] = source.split(', ')
  const all = read(file!)
  if (whole) return text === all ? undefined : `${page}: not the whole of ${file}`
  let from = 0
  for (const piece of text.split(/^ *\/\/ …\n/m)) {
    const at = all.indexOf(piece, from)
    if (at === -1) return `${page}: not in ${file}: ${piece.split('\n', 1)[0]}`
    from = at + piece.length
  }
  return undefined
}

function linksIn(page: string): string[] {
  return [...prose(page).matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link!)
    .filter((link) => !/^[a-z]+:/.test(link))
}

function leadsSomewhere(page: string, link: string): boolean {
  const [path, anchor] = link.split('#') as [string, string?]
  const target = path === '' ? page : join(dirname(page), path)
  if (!exists(target)) return false
  return anchor === undefined || anchorsOf(target).has(anchor)
}

/** Anchors as GitHub makes them of headings. */
function anchorsOf(page: string): Set<string> {
  return new Set(
    [...prose(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
      heading!
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-')
    )
  )
}

/** What looks like a file of the repository, or a folder of it. */
function isPath(word: string): boolean {
  return (
    /^[\w.-]+(\/[\w.-]+)*\.(ts|mjs|mts|cjs|sql|md)$/.test(word) ||
    /^(src|packages|test|docs|bench|scripts|migrations|config)\/[\w./-]+$/.test(word)
  )
}

function existsAsPath(word: string): boolean {
  return exists(word) || (!word.includes('/') && names.has(word))
}

/** The first cells of the table whose first column has this head: names in backticks. */
function firstCells(page: string, head: string): string[] {
  const lines = linesOf(page)
  return lines.flatMap((line, index) => {
    if (!line.startsWith(`| ${head} |`)) return []
    const rows = lines.slice(index + 2)
    const end = rows.findIndex((row) => !row.startsWith('|'))
    return rows
      .slice(0, end === -1 ? undefined : end)
      .flatMap((row) => [...row.split('|')[1]!.matchAll(/`(\w+)`/g)].map(([, name]) => name!))
  })
}

/** A page without what is printed in blocks. */
function prose(page: string): string {
  return read(page).replaceAll(/^```.*?^```/gms, '')
}

function linesOf(file: string): string[] {
  return read(file).trimEnd().split('\n')
}

function read(file: string): string {
  return readFileSync(join(root, file), 'utf8')
}

function exists(path: string): boolean {
  return existsSync(join(root, path))
}

function filesIn(folder: string): string[] {
  return readdirSync(join(root, folder))
    .filter((name) => !SKIPPED.has(name))
    .flatMap((name) => {
      const path = join(folder, name)
      return statSync(join(root, path)).isDirectory() ? filesIn(path) : [path]
    })
}

// `npm run api` writes what is kept of the library's surface: a report of each door, for review, and
// the pages of the reference. test/unit/api.test.ts holds both to the build.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { surfaces, type Surface } from './api/extract.ts'
import { examplesIn, pageOf } from './api/pages.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const EXAMPLES = 'docs/examples/api'

/** All examples of docs/examples/api. */
export function examples() {
  return readdirSync(join(root, EXAMPLES))
    .toSorted()
    .flatMap((file) => examplesIn(readFileSync(join(root, EXAMPLES, file), 'utf8')))
}

/** Outside the promise of versions: it has a report, and no page. */
export const isPromised = ({ door }: Surface) => door !== 'engine'

/** Path and text of every file. */
export function filesOf(found: readonly Surface[]): Map<string, string> {
  const shown = examples()
  const name = (door: string) => (door === 'index' ? 'sagabox' : door)
  return new Map([
    ...found.map(({ door, report }) => [`packages/sagabox/api/${door}.api.md`, report] as const),
    ...found
      .filter(isPromised)
      .map((one) => [`docs/reference/api/${name(one.door)}.md`, pageOf(one, shown)] as const)
  ])
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, text] of filesOf(surfaces())) {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
}

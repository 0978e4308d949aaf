import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

/** A class as its source has it. */
interface ErrorClass {
  name: string
  base: string
  code: string | undefined
}

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url))
const LIBRARY = 'packages/sagabox/src'
const PAGE = readFileSync(join(ROOT, 'docs/reference/error-codes.md'), 'utf8')

function classesOf(folder: string): ErrorClass[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) => {
      const source = readFileSync(join(ROOT, folder, file), 'utf8')
      const classes = source.matchAll(/^(?:export )?(?:abstract )?class (\w+) extends (\w+) \{/gm)
      return [...classes].map(({ 1: name, 2: base, index }) => {
        const body = source.slice(index, source.indexOf('\n}', index))
        const [, code] = /^ {2}override readonly code(?:: string)? = '(\w+)'$/m.exec(body) ?? []
        return { name: name!, base: base!, code }
      })
    })
}

/** Those of them that are errors, however many classes are between. */
function errorsAmong(classes: readonly ErrorClass[], known: readonly ErrorClass[]): ErrorClass[] {
  const isError = ({ base }: ErrorClass): boolean =>
    base === 'Error' || known.some((one) => one.name === base && isError(one))
  return classes.filter((one) => isError(one))
}

/** Code, class and, where there is one, door of each line. */
function rowsOf(heading: string): string[][] {
  const section = PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? ''
  return [...section.matchAll(/^\| `[A-Z_]+` .*$/gm)].map(([line]) =>
    line
      .split('|')
      .slice(1, 4)
      .map((cell) => cell.trim().replaceAll('`', ''))
  )
}

const asCode = (name: string) => name.replaceAll(/(?<=[a-z])(?=[A-Z])/g, '_').toUpperCase()
const byName = (one: string[], other: string[]) => one[1]!.localeCompare(other[1]!)

const library = classesOf(LIBRARY)
const system = classesOf('src')
const all = [...library, ...system]
const libraryErrors = errorsAmong(library, all).filter(({ name }) => name !== 'SagaboxError')
const systemErrors = errorsAmong(system, all)

t.test('every class of errors has its own code, named after it', async (t) => {
  t.ok(libraryErrors.length > 20)
  t.ok(systemErrors.length > 2)
  for (const { name, base, code } of [...libraryErrors, ...systemErrors]) {
    t.not(base, 'Error', `${name} is a SagaboxError`)
    t.equal(code, asCode(name), name)
  }
})

t.test('the page lists all codes, and no others', async (t) => {
  const rows = (classes: ErrorClass[]) =>
    classes.map(({ name, code }) => [code!, name]).toSorted(byName)
  t.same(
    rowsOf('The library').map((row) => row.slice(0, 2)),
    rows(libraryErrors)
  )
  t.same(
    rowsOf('The order, stock and payment services').map((row) => row.slice(0, 2)),
    rows(systemErrors)
  )
})

t.test('the page names the door of each class', async (t) => {
  for (const [, name, door] of rowsOf('The library')) {
    if (door === 'none') continue
    const file = door === 'sagabox' ? 'index.ts' : `${door!.slice('sagabox/'.length)}.ts`
    const exported = (await import(join(ROOT, LIBRARY, file))) as Record<string, unknown>
    t.type(exported[name!], 'function', `${door} exports ${name}`)
  }
})

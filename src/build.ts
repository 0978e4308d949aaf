import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { CannotStart } from 'sagabox'

/**
 * Compares the migrations that will run with those this code was built with: newer ones under older code, as an archive
 * unpacked over a checkout leaves them, would change tables that the code does not know. What runs unbuilt is not asked.
 * @throws CannotStart
 */
export function checkBuild(
  manifest = new URL('./build.json', import.meta.url), folder = new URL('../migrations/', import.meta.url)
): void {
  if (!existsSync(manifest)) return
  const { migrations: built } = JSON.parse(readFileSync(manifest, 'utf8')) as { migrations: Record<string, string> }
  const found = existsSync(folder) ? hashesOf(folder) : {}
  const differing = [...new Set([...Object.keys(built), ...Object.keys(found)])].filter((file) => built[file] !== found[file])
  if (differing.length === 0) return
  const name = (file: string) => `${file} ${!(file in built) ? 'is new' : file in found ? 'was changed' : 'is missing'}`
  throw new CannotStart(
    `The code in ${fileURLToPath(new URL('./', manifest))} was built with other migrations than those in ${fileURLToPath(folder)}: ` +
    `${name(differing[0]!)}${differing.length > 1 ? `, and ${differing.length - 1} more` : ''}. Build it anew: npm run build`
  )
}

/** As scripts/prepare.mjs writes them. */
function hashesOf(folder: URL): Record<string, string> {
  const files = readdirSync(folder).toSorted().flatMap((part) => {
    const inner = new URL(`${part}/`, folder)
    return statSync(new URL(part, folder)).isDirectory() ? readdirSync(inner).toSorted().map((name) => `${part}/${name}`) : [part]
  })
  return Object.fromEntries(files.map((file) => {
    const content = readFileSync(new URL(file, folder))
    return [file, createHash('sha256').update(`migrations/${file}\0${content.length}\0`).update(content).digest('hex')]
  }))
}

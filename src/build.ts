import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { CannotStart } from 'sagabox'

/** Where migrations are, from the root: the services' and the library's. */
const FOLDERS = ['migrations', 'packages/sagabox/migrations']

/**
 * Compares the migrations that will run with those this code was built with: newer ones under older
 * code, as an archive unpacked over a checkout leaves them, would change tables that the code does
 * not know. What runs unbuilt is not asked.
 * @throws CannotStart
 */
export function checkBuild(
  manifest = new URL('./build.json', import.meta.url),
  root = new URL('../', import.meta.url)
): void {
  if (!existsSync(manifest)) return
  const { migrations: built } = JSON.parse(readFileSync(manifest, 'utf8')) as {
    migrations: Record<string, string>
  }
  const found = Object.fromEntries(
    FOLDERS.flatMap((folder) => filesIn(root, folder)).map((file) => [file, hashOf(root, file)])
  )
  const differing = [...new Set([...Object.keys(built), ...Object.keys(found)])].filter(
    (file) => built[file] !== found[file]
  )
  if (differing.length === 0) return
  const name = (file: string) =>
    `${file} ${!(file in built) ? 'is new' : file in found ? 'was changed' : 'is missing'}`
  throw new CannotStart(
    `The code in ${fileURLToPath(new URL('./', manifest))} was built with other migrations than those in ${fileURLToPath(root)}: ` +
      `${name(differing[0]!)}${differing.length > 1 ? `, and ${differing.length - 1} more` : ''}. Build it anew: npm run build`
  )
}

/** Paths from the root, of all files in a folder. */
function filesIn(root: URL, folder: string): string[] {
  const path = fileURLToPath(new URL(folder, root))
  if (!existsSync(path)) return []
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(
      (entry) =>
        `${folder}/${join(entry.parentPath, entry.name)
          .slice(path.length + 1)
          .replaceAll('\\', '/')}`
    )
}

/** As scripts/prepare.mjs writes it. */
function hashOf(root: URL, file: string): string {
  const content = readFileSync(new URL(file, root))
  return createHash('sha256').update(`${file}\0${content.length}\0`).update(content).digest('hex')
}

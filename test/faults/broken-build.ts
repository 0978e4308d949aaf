import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ROOT, type Scope } from '../support/program.ts'

/** One text of a file of the product, exchanged for another. */
export interface Edit {
  /** Compiled, inside dist/. */
  file: string
  from: string
  to: string
}

/**
 * Builds the product with something broken in it. Returns its dist folder.
 * @throws when a text is not there exactly once: it has been changed in the product, and the edit must be written anew
 */
export async function brokenBuild(scope: Scope, edits: readonly Edit[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-broken-'))
  scope.teardown(() => rm(folder, { recursive: true, force: true }))
  const dist = join(folder, 'dist')
  await cp(join(ROOT, 'dist'), dist, { recursive: true })
  for (const shared of ['package.json', 'node_modules', 'config', 'migrations']) await symlink(join(ROOT, shared), join(folder, shared))
  for (const { file, from, to } of edits) {
    const code = await readFile(join(dist, file), 'utf8')
    const found = code.split(from).length - 1
    if (found !== 1) throw new Error(`dist/${file} holds this ${found} times, expected once: ${from}`)
    await writeFile(join(dist, file), code.replace(from, () => to))
  }
  return dist
}

import { cp, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { applyEdits, type Edit } from '../support/edits.ts'
import { ROOT, type Scope } from '../support/program.ts'

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
  await applyEdits(dist, edits)
  return dist
}

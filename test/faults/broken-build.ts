import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { applyEdits, type Edit } from '../support/edits.ts'
import { copyProduct } from '../support/copy-of-product.ts'
import type { Scope } from '../support/program.ts'

/**
 * Builds the product with something broken in it. Returns its folder.
 * @throws when a text is not there exactly once: it has been changed in the product, and the edit
 * must be written anew
 */
export async function brokenBuild(scope: Scope, edits: readonly Edit[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-broken-'))
  scope.teardown(() => rm(folder, { recursive: true, force: true }))
  await copyProduct(folder, ['dist', 'packages/sagabox/dist'])
  await applyEdits(folder, edits)
  return folder
}

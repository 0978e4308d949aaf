import { cp, mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { ROOT } from './program.ts'

/** What a copy shares with the product: nobody changes it there. */
const SHARED = ['package.json', 'config', 'migrations']
const LIBRARY = 'packages/sagabox'

/**
 * Makes a folder a product of its own, with the given parts copied so that they can be changed, and
 * a library of its own. Other packages are those of the product.
 * @param parts folders, from the root
 */
export async function copyProduct(folder: string, parts: readonly string[]): Promise<void> {
  for (const part of parts) await cp(join(ROOT, part), join(folder, part), { recursive: true })
  for (const part of SHARED) await symlink(join(ROOT, part), join(folder, part))
  await mkdir(join(folder, LIBRARY), { recursive: true })
  for (const part of ['package.json', 'migrations'])
    await symlink(join(ROOT, LIBRARY, part), join(folder, LIBRARY, part))
  await mkdir(join(folder, 'node_modules'))
  for (const name of await readdir(join(ROOT, 'node_modules'))) {
    const target = name === 'sagabox' ? join('..', LIBRARY) : join(ROOT, 'node_modules', name)
    await symlink(target, join(folder, 'node_modules', name))
  }
}

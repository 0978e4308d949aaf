import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** One text of a file of the product, exchanged for another. */
export interface Edit {
  /** Inside the folder that is edited. */
  file: string
  from: string
  to: string
}

/**
 * Breaks a copy of the product.
 * @throws when a text is not there exactly once: it has been changed in the product, and the edit must be written anew
 */
export async function applyEdits(folder: string, edits: readonly Edit[]): Promise<void> {
  for (const { file, from, to } of edits) {
    const path = join(folder, file)
    const code = await readFile(path, 'utf8')
    const found = code.split(from).length - 1
    if (found !== 1) throw new Error(`${path} holds this ${found} times, expected once: ${from}`)
    await writeFile(path, code.replace(from, () => to))
  }
}

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** One text of a file of the product, exchanged for another. */
export interface Edit {
  /** Inside the folder that is edited. */
  file: string
  /** Found however its lines are broken and indented. */
  from: string
  to: string
}

/**
 * Breaks a copy of the product.
 * @throws when a text is not there exactly once: it has been changed in the product, and the edit
 * must be written anew
 */
export async function applyEdits(folder: string, edits: readonly Edit[]): Promise<void> {
  for (const { file, from, to } of edits) {
    const path = join(folder, file)
    const code = await readFile(path, 'utf8')
    const found = [...code.matchAll(loosely(from))].length
    if (found !== 1) throw new Error(`${path} holds this ${found} times, expected once: ${from}`)
    await writeFile(
      path,
      code.replace(loosely(from), () => to)
    )
  }
}

/** Whitespace counts where it parts two words, and nowhere else. */
function loosely(text: string): RegExp {
  const tokens = text.match(/\w+|\s+|[^\w\s]/g) ?? []
  const parts = tokens.map((token, index) => {
    if (/\s/.test(token)) {
      const [before, after] = [tokens[index - 1] ?? '', tokens[index + 1] ?? '']
      return /^\w/.test(before) && /^\w/.test(after) ? '\\s+' : '\\s*'
    }
    return /\w/.test(token) ? token : `\\s*\\${token}\\s*`
  })
  return new RegExp(parts.join(''), 'g')
}

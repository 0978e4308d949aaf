import { storableJson, storableText } from './sql.ts'

/**
 * Text that PostgreSQL takes, of at most so many bytes; what is longer says how much is missing.
 */
export function boundedText(text: string, bytes: number): string {
  const storable = storableText(text.slice(0, bytes))
  if (text.length <= bytes && Buffer.byteLength(storable) <= bytes) return storable
  const mark = ` … (${Buffer.byteLength(text)} bytes)`
  const room = Math.max(0, bytes - Buffer.byteLength(mark))
  // Half a character at the cut is read as replacement characters.
  const cut = Buffer.from(storable)
    .subarray(0, room)
    .toString()
    .replace(/\uFFFD+$/, '')
  return `${cut}${mark}`
}

export interface Bounded {
  /** Those that fit, as they were. */
  kept: Record<string, unknown>
  /** How many did not, and their size as JSON where it can be told, bytes. */
  dropped: number
  droppedBytes: number
}

/**
 * The fields of a record that fit into so many bytes of JSON, the smallest first, each whole or not
 * at all. One that cannot be written, being nested too deep for instance, does not fit.
 */
export function boundedFields(fields: Readonly<Record<string, unknown>>, bytes: number): Bounded {
  const kept: Record<string, unknown> = {}
  let [size, dropped, droppedBytes] = [2, 0, 0]
  const sized = Object.entries(fields).map(([name, value]) => ({
    name,
    value,
    bytes: sizeOf(name, value)
  }))
  for (const { name, value, bytes: more } of sized.toSorted((a, b) => a.bytes - b.bytes)) {
    if (size + more <= bytes) {
      size += more
      kept[name] = value
    } else {
      dropped++
      if (more !== Infinity) droppedBytes += more
    }
  }
  return { kept, dropped, droppedBytes }
}

function sizeOf(name: string, value: unknown): number {
  try {
    return Buffer.byteLength(storableJson({ [name]: value }))
  } catch {
    return Infinity
  }
}

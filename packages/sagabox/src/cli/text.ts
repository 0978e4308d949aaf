/**
 * What a terminal would obey instead of showing it: control characters, those that turn the
 * direction of writing, and halves of characters.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu
/** In JSON text: line breaks between values are its own. */
const UNSAFE_IN_JSON = /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu
/** Take two columns of a terminal. */
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u

/** Text from elsewhere, safe to print in a line. */
export function clean(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
  return text.replaceAll(UNSAFE, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)
}

/** Text from elsewhere, safe to print, with its line breaks. */
export function cleanLines(text: string): string[] {
  return text.split(/\r?\n/).map((line) => clean(line.replaceAll('\t', '  ')))
}

/** JSON that means the same, and is safe to print. */
export function safeJson(json: string): string {
  return json.replaceAll(UNSAFE_IN_JSON, escaped)
}

function escaped(character: string): string {
  return [...Array(character.length).keys()]
    .map((index) => `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`)
    .join('')
}

/** Columns that a terminal shows text in. */
export function widthOf(text: string): number {
  let width = 0
  for (const character of text) width += /\p{M}/u.test(character) ? 0 : WIDE.test(character) ? 2 : 1
  return width
}

/** The beginning of a text, in so many columns. */
export function shortened(text: string, most: number): string {
  if (widthOf(text) <= most) return text
  let [kept, width] = ['', 0]
  for (const character of text) {
    width += widthOf(character)
    if (width > most - 1) break
    kept += character
  }
  return `${kept}…`
}

export interface Column<Row> {
  title: string
  of(row: Row): unknown
  /** Of what is too wide together, these are shortened; ids never are. */
  shrinks?: boolean
  right?: boolean
}

/** Narrower than this nothing can be read. */
const LEAST = 6
const GAP = '  '

/** Lines of a table, at most so many columns wide as long as its ids allow. */
export function table<Row>(
  rows: readonly Row[],
  columns: readonly Column<Row>[],
  width: number
): string[] {
  const cells = rows.map((row) => columns.map(({ of }) => clean(of(row) ?? '')))
  const widths = columns.map(({ title }, index) =>
    Math.max(widthOf(title), ...cells.map((line) => widthOf(line[index]!)))
  )
  for (;;) {
    const over = sum(widths) + GAP.length * (columns.length - 1) - width
    const widest = columns
      .map((column, index) => (column.shrinks ? widths[index]! : 0))
      .reduce((best, size, index, all) => (size > all[best]! ? index : best), 0)
    if (over <= 0 || !columns[widest]!.shrinks || widths[widest]! <= LEAST) break
    widths[widest] = Math.max(LEAST, widths[widest]! - 1)
  }
  const line = (texts: readonly string[]) =>
    texts
      .map((text, index) => {
        const shown = shortened(text, widths[index]!)
        const space = ' '.repeat(Math.max(0, widths[index]! - widthOf(shown)))
        return columns[index]!.right ? space + shown : shown + space
      })
      .join(GAP)
      .trimEnd()
  return [line(columns.map(({ title }) => title)), ...cells.map(line)]
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0)
}

/** Names and values, one a line. */
export function pairs(values: readonly (readonly [string, unknown])[], indent = '  '): string[] {
  const given = values.filter(([, value]) => value !== undefined && value !== null)
  const width = Math.max(...given.map(([name]) => name.length), 0)
  return given.map(([name, value]) => `${indent}${name.padEnd(width)}${GAP}${clean(value)}`)
}

/** A moment as people read it: in the zone of this machine, or in UTC. */
export function time(value: unknown, utc: boolean): string {
  const date = new Date(typeof value === 'string' ? value : Number.NaN)
  if (Number.isNaN(date.getTime())) return value == null ? '' : clean(value)
  if (utc) return `${date.toISOString().slice(0, 19).replace('T', ' ')}Z`
  const two = (number: number) => String(number).padStart(2, '0')
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

/** `41 s`, `12 min`, `3 h`, `5 d` */
export function age(seconds: number): string {
  const [size, unit] = (
    [
      [86_400, 'd'],
      [3600, 'h'],
      [60, 'min']
    ] as const
  ).find(([least]) => seconds >= least) ?? [1, 's']
  return `${Math.floor(seconds / size)} ${unit}`
}

/** Lines of so many columns, broken between words as far as they let it. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  return [...lines, line]
}

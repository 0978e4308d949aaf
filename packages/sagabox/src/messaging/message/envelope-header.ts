// A header put into an envelope as it is: nothing else of its bytes changes.

/** Written into the envelope, too, because MassTransit looks there. */
export const REDELIVERIES = 'MT-Redelivery-Count'

/**
 * The envelope with a header more, or another value of it.
 * @returns the same text where it has no headers that could be found
 */
export function withHeader(envelope: string, name: string, value: number): string {
  const place = headersOf(envelope)
  if (!place) return envelope
  const [start, end] = place
  const headers = { ...(JSON.parse(envelope.slice(start, end)) as object), [name]: value }
  return envelope.slice(0, start) + JSON.stringify(headers) + envelope.slice(end)
}

/** Where the object of the top level is that is called headers. */
function headersOf(text: string): [number, number] | undefined {
  let depth = 0
  let start: number | undefined
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!
    if (character === '"') {
      const end = endOfText(text, at)
      const [colon] = /^\s*:\s*(?=\{)/.exec(text.slice(end, end + 100)) ?? []
      if (depth === 1 && text.slice(at, end) === '"headers"' && colon !== undefined)
        start = end + colon.length
      at = end - 1
    } else if (character === '{' || character === '[') depth++
    else if (character === '}' || character === ']') {
      depth--
      if (depth === 1 && start !== undefined) return [start, at + 1]
    }
  }
  return undefined
}

/** Behind the quote that ends a text. */
function endOfText(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++
    else if (text[at] === '"') return at + 1
  }
  return text.length
}

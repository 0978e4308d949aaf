/** A gateway's or a person's words as a reason code: the contracts take nothing else. */
export function reasonOf(text: string): string {
  const code = text.replaceAll(/[^A-Za-z0-9._-]+/g, ' ').replace(/^[ ._-]+/, '')
  return code.slice(0, 100).trim() || 'Declined'
}

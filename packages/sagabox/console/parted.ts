/** Of an explanation, what is the matter; and then what else waits and what comes next. */
export function parted(sentence: string): [matter: string, rest: string] {
  const cut = sentence.search(/(?<=\.) (?=\d+ others? |If nothing comes)/)
  return cut < 0 ? [sentence, ''] : [sentence.slice(0, cut), sentence.slice(cut + 1)]
}

// Preloaded into the product's process: breaks one of its files as it is loaded. Plain Node, like the product it runs in.
import { register } from 'node:module'
import { readFileSync, writeSync } from 'node:fs'

const STDERR = 2

if (process.env.MUTANT) register(import.meta.url, { data: JSON.parse(process.env.MUTANT) })

let edits = []

/** Runs in the thread of the hooks. */
export function initialize(given) {
  edits = given
}

export async function load(url, context, nextLoad) {
  const mine = edits.filter(({ file }) => url.endsWith(`/dist/${file}`))
  if (mine.length === 0) return nextLoad(url, context)
  let source = readFileSync(new URL(url), 'utf8')
  for (const { from, to } of mine) source = replaceOnce(source, from, to, url)
  writeSync(STDERR, mine.map(({ file }) => `mutated ${file}\n`).join(''))
  return { format: 'module', source, shortCircuit: true }
}

/** A text that is not there exactly once has been changed in the product: the mutation must be written anew. */
function replaceOnce(source, from, to, url) {
  const found = source.split(from).length - 1
  if (found !== 1) throw new Error(`Mutation: ${url} holds ${found} times, expected once: ${from}`)
  return source.replace(from, () => to)
}

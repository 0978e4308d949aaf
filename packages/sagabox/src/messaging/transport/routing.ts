import { own } from './headers.ts'
import type { ForeignBinding, ForeignExchange } from './topology.ts'
import type { Headers } from './transport.ts'

/** The queues that AMQP would bring a message to, each once. */
export function queuesOf(
  { type, bindings }: ForeignExchange,
  routingKey: string,
  headers: Headers
): string[] {
  const fits = {
    fanout: () => true,
    direct: ({ key }: ForeignBinding) => key === routingKey,
    topic: ({ key }: ForeignBinding) => matchesTopic(key.split('.'), routingKey.split('.')),
    headers: (binding: ForeignBinding) => matchesHeaders(binding.headers, headers)
  }[type]
  return [...new Set(bindings.filter(fits).map(({ queue }) => queue))]
}

/** `*` stands for one word, `#` for any number of them. */
export function matchesTopic(pattern: readonly string[], words: readonly string[]): boolean {
  const [first, ...rest] = pattern
  if (first === undefined) return words.length === 0
  if (first === '#')
    return matchesTopic(rest, words) || (words.length > 0 && matchesTopic(pattern, words.slice(1)))
  return (
    words.length > 0 && (first === '*' || first === words[0]) && matchesTopic(rest, words.slice(1))
  )
}

function matchesHeaders(wanted: ForeignBinding['headers'], headers: Headers): boolean {
  const names = Object.keys(wanted).filter((name) => !name.startsWith('x-'))
  const fits = (name: string) => own(headers, name) === wanted[name]
  return wanted['x-match'] === 'any' ? names.some(fits) : names.every(fits)
}

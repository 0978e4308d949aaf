import type { Message } from './message.ts'

/**
 * A number, below 2^53, for what a message says: its type and its body as it was read. The order of keys and the envelope around it do not matter:
 * MassTransit writes both anew when it redelivers. Not made against somebody who searches for two bodies with one number: all that
 * would come of it is what came of every second message under one id before. 1.3 µs for an order's body; JSON with
 * its keys sorted and MD5 took 4.
 */
export function contentOf({ contract, body }: Pick<Message, 'contract' | 'body'>): string {
  let high = 0x2f0b4a27
  let low = 0x9e3779b1 | 0
  const mix = (value: number) => {
    high = Math.imul(high ^ value, 0x85ebca6b)
    high ^= high >>> 13
    low = Math.imul(low ^ value, 0xc2b2ae35)
    low ^= low >>> 16
  }
  const text = (value: string) => {
    let hash = value.length
    for (let index = 0; index < value.length; index++) hash = Math.imul(hash ^ value.charCodeAt(index), 0x01000193)
    mix(hash)
  }
  const add = (value: unknown): void => {
    if (typeof value === 'string') text(value)
    else if (typeof value === 'number') text(Number.isInteger(value) && Math.abs(value) < 1e15 ? `n${value}` : `f${value}`)
    else if (typeof value !== 'object' || value === null) text(`:${String(value)}`)
    else if (Array.isArray(value)) {
      mix(-2)
      for (const element of value as unknown[]) add(element)
      mix(-3)
    } else {
      mix(-4)
      fields(value as Record<string, unknown>)
      mix(-5)
    }
  }
  const fields = (object: Record<string, unknown>) => {
    const [highBefore, lowBefore] = [high, low]
    let [highSum, lowSum] = [0, 0]
    for (const key in object) {
      if (object[key] === undefined) continue
      high = highBefore
      low = lowBefore
      text(key)
      add(object[key])
      // In whatever order the keys come.
      highSum = (highSum + high) | 0
      lowSum = (lowSum + low) | 0
    }
    high = highBefore
    low = lowBefore
    mix(highSum)
    mix(lowSum)
  }
  text(contract.urn)
  add(body)
  return String((high & 0x1fffff) * 0x1_0000_0000 + (low >>> 0))
}

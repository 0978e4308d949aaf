/** MassTransit's names of queues and exchanges. */
const NAME = /^[A-Za-z0-9_.:-]{1,255}$/
const SHORT = /^(?:queue|exchange):([^?/]+)(?:\?.*)?$/s
/** Longest address that is looked at, characters. */
const LONGEST = 1000
/** What one broker may be called by: TLS or not, MassTransit's word or AMQP's. */
const SCHEMES = ['rabbitmq:', 'rabbitmqs:', 'amqp:', 'amqps:']

/**
 * The queue that an address names on a bus: `rabbitmq://host/vhost/name?temporary=true`,
 * `queue:name`, `exchange:name`, which MassTransit's receive endpoints have a queue behind. The host
 * is not compared, since a broker has many names; kind of bus and virtual host are.
 * @param address a sender's word
 * @param bus of this process, such as `rabbitmq://localhost/`
 * @returns undefined when it is no queue of this bus
 */
export function queueIn(address: string, bus: string): string | undefined {
  if (address.length > LONGEST) return undefined
  const [, short] = SHORT.exec(address) ?? []
  const name = short ?? entityIn(address, bus)
  return name !== undefined && NAME.test(name) ? name : undefined
}

function entityIn(address: string, bus: string): string | undefined {
  try {
    const [given, own] = [new URL(address), new URL(bus)]
    if (kindOf(given) !== kindOf(own)) return undefined
    const path = segmentsOf(given)
    const name = path.pop()
    const [vhost = '/', ...more] = path
    const [ownVhost = '/'] = segmentsOf(own)
    return more.length === 0 && vhost === ownVhost ? name : undefined
  } catch {
    return undefined
  }
}

function kindOf({ protocol }: URL): string {
  return SCHEMES.includes(protocol) ? 'rabbitmq' : protocol
}

function segmentsOf({ pathname }: URL): string[] {
  return pathname
    .split('/')
    .filter((part) => part !== '')
    .map(decodeURIComponent)
}

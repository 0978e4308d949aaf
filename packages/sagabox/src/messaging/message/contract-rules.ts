// What can be declared: whatever else a contract says would fail later, and elsewhere.
import type { TSchema } from 'typebox'
import { sensitiveNames } from './sensitive.ts'
import { SagaboxError } from '../errors/sagabox-error.ts'

/** A contract that cannot be carried, or that says nothing of what it must say. */
export class InvalidContract extends SagaboxError {
  override readonly name = 'InvalidContract'
  override readonly code = 'INVALID_CONTRACT'
}

/** Of a name in AMQP, bytes. */
const MAX_NAME_BYTES = 255
/** What is put behind the name of a queue: `_skipped`. */
const SUFFIX_BYTES = 8

/** A type of .NET, one nested in another included, or a name with hyphens. */
const TYPE_NAME = /^[A-Za-z_][A-Za-z0-9_+-]*$/
const NAMESPACE = /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$/
/** What MassTransit lets exchanges and queues be called. */
const ENTITY = /^[A-Za-z0-9_.:-]+$/
const URN = /^[a-z][a-z0-9+.-]*:[!-~]+$/

/** What the parts of a contract must be, in the words of its declaration. */
export class ContractRules {
  readonly #contract: string

  /** @param contract how errors call it */
  constructor(contract: unknown) {
    this.#contract = typeof contract === 'string' && contract !== '' ? contract : 'without a name'
  }

  /** @throws InvalidContract */
  refuse(what: string): never {
    throw new InvalidContract(`Contract ${this.#contract}: ${what}`)
  }

  name(name: unknown): void {
    if (typeof name !== 'string' || !TYPE_NAME.test(name))
      this.refuse(
        `expected a name of letters, digits, _, + and -, with a letter first, got ${shown(name)}`
      )
  }

  namespace(namespace: unknown): void {
    if (typeof namespace !== 'string' || !NAMESPACE.test(namespace))
      this.refuse(`expected a namespace such as Acme.Shipping, got ${shown(namespace)}`)
  }

  urn(urn: unknown): void {
    if (typeof urn !== 'string' || !URN.test(urn))
      this.refuse(`expected a urn such as urn:message:Acme:Shipped, got ${shown(urn)}`)
  }

  owner(owner: unknown, kind: string): void {
    if (owner === undefined || owner === '')
      this.refuse(
        `it has no owner; expected the name of the service that ${kind === 'command' ? 'takes it' : 'publishes it'}, as contracts('<service>', …) says it of all its contracts`
      )
    this.entity('owner', owner)
  }

  /** @param what it is the name of: `owner`, `exchange`, … */
  entity(what: string, name: unknown): void {
    if (typeof name !== 'string' || !ENTITY.test(name))
      this.refuse(
        `expected ${what} to be a name of letters, digits and _ . : -, got ${shown(name)}`
      )
    this.fits(what, name, what === 'exchange' ? 0 : SUFFIX_BYTES)
  }

  /** What an event may be, too. */
  base(base: { kind?: unknown; name?: unknown; foreign?: unknown }): void {
    if (base.kind !== 'event' || base.foreign !== undefined)
      this.refuse(`also names ${shown(base.name)}, which is no event of an envelope; expected one`)
  }

  /** A name that AMQP can carry. */
  fits(what: string, name: string, more = 0): void {
    const bytes = Buffer.byteLength(name) + more
    if (bytes > MAX_NAME_BYTES)
      this.refuse(
        `its ${what} ${name.slice(0, 60)}… has ${bytes} bytes${more > 0 ? ' with _skipped' : ''}; expected at most ${MAX_NAME_BYTES}`
      )
  }

  /** Names that a message has for itself: the field would hide the event's own type from a saga. */
  fields(properties: Readonly<Record<string, unknown>>): void {
    if (Object.hasOwn(properties, 'type'))
      this.refuse("a field named type would hide the event's own type from a saga")
  }

  /** What is shown to few cannot name what is shown to all: the instance of a saga. */
  sensitive(schema: TSchema, correlateBy: string | undefined): void {
    const name = correlateBy?.split('.').at(-1)
    if (name !== undefined && sensitiveNames(schema).includes(name))
      this.refuse(
        `its field ${name} is sensitive, and correlateBy names it: lists, paths and logs show it; expected another`
      )
  }

  /** The field, or path with dots, that names the business transaction: text that is always there. */
  correlateBy(schema: TSchema, path: unknown): void {
    if (typeof path !== 'string' || path === '')
      this.refuse(`expected correlateBy to name a field, got ${shown(path)}`)
    let at = schema as Described
    for (const field of path.split('.')) {
      const { properties = {}, required = [] } = at
      if (!Object.hasOwn(properties, field))
        this.refuse(
          `correlateBy is ${path}, which is none of its fields (${Object.keys(properties).join(', ') || 'it has none'})`
        )
      if (!required.includes(field))
        this.refuse(`correlateBy is ${path}, which is optional; expected a field that is required`)
      at = properties[field]!
    }
    if (!isText(at))
      this.refuse(
        `correlateBy is ${path}, which is ${at.type ?? 'not a text'}; expected a text, such as Type.String()`
      )
  }
}

interface Described {
  type?: string
  const?: unknown
  enum?: readonly unknown[]
  anyOf?: readonly Described[]
  properties?: Record<string, Described>
  required?: readonly string[]
}

function isText({ type, const: only, enum: some, anyOf }: Described): boolean {
  if (anyOf) return anyOf.every(isText)
  if (some) return some.every((one) => typeof one === 'string')
  return type === 'string' || typeof only === 'string'
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing'
  const text = JSON.stringify(value) ?? typeof value
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

import type { TSchema } from 'typebox'

/** What is shown of what is not for everybody. */
export const MASK = '•••'

interface Described {
  sensitive?: unknown
  properties?: Readonly<Record<string, Described>>
  patternProperties?: Readonly<Record<string, Described>>
  additionalProperties?: Described | boolean
  items?: Described | readonly Described[]
  anyOf?: readonly Described[]
  allOf?: readonly Described[]
  oneOf?: readonly Described[]
}

/**
 * Hides the fields that contracts call `sensitive`, wherever a field of that name is: in bodies, and
 * in what a saga keeps of them. Where no contract does, it costs nothing and changes nothing.
 */
export class Mask {
  readonly #names: ReadonlySet<string>

  constructor(contracts: readonly { readonly schema: TSchema }[]) {
    this.#names = new Set(contracts.flatMap(({ schema }) => sensitiveNames(schema)))
  }

  /** Whether there is anything to hide. */
  get isNeeded(): boolean {
    return this.#names.size > 0
  }

  /** A copy without them of what is made of plain objects and lists. */
  of<T>(value: T): T {
    return this.#copy(value, 0) as T
  }

  /** JSON without them; what is no JSON, or not whole, is hidden altogether. */
  ofText(text: string): string {
    try {
      return JSON.stringify(this.of(JSON.parse(text)))
    } catch {
      return MASK
    }
  }

  #copy(value: unknown, depth: number): unknown {
    if (typeof value !== 'object' || value === null) return value
    if (depth > DEEPEST) return MASK
    if (Array.isArray(value)) return value.map((item) => this.#copy(item, depth + 1))
    if (!isPlain(value)) return value
    return Object.fromEntries(
      Object.entries(value).map(([name, field]) => [
        name,
        this.#names.has(name) ? MASK : this.#copy(field, depth + 1)
      ])
    )
  }
}

/** What is nested deeper is hidden altogether. */
const DEEPEST = 200

/** No Date, Error or Buffer: their fields are not what contracts speak of. */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === null
}

/** Names of the fields that are sensitive, or hold nothing by a name that is. */
export function sensitiveNames(schema: TSchema): string[] {
  const names = new Set<string>()
  look(schema, undefined, names)
  return [...names]
}

/** @param name of the nearest field around it */
function look(schema: Described, name: string | undefined, names: Set<string>): void {
  if (schema.sensitive === true && name !== undefined) names.add(name)
  for (const [inner, described] of Object.entries(schema.properties ?? {}))
    look(described, inner, names)
  for (const described of partsOf(schema)) look(described, name, names)
}

function partsOf(schema: Described): Described[] {
  const { items = [], additionalProperties: more, anyOf, allOf, oneOf } = schema
  return [
    ...(Array.isArray(items) ? (items as Described[]) : [items as Described]),
    ...(typeof more === 'object' ? [more] : []),
    ...Object.values(schema.patternProperties ?? {}),
    ...(anyOf ?? []),
    ...(allOf ?? []),
    ...(oneOf ?? [])
  ]
}

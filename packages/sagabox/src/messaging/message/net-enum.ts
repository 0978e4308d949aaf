import Type from 'typebox'

/** The names of an enum's numbers in a schema, in their order: OpenAPI's generators read it, too. */
const NAMES = 'x-enum-varnames'

/** The values of an enum: `NetEnumOf<typeof Status>`. */
export type NetEnumOf<Members extends Readonly<Record<string, number>>> = Members[keyof Members]

/**
 * .NET's `enum`: its number, as MassTransit writes and reads it. A name is read, too, in any case,
 * and is the number from then on.
 * @param members names and numbers, such as `{ Pending: 0, Paid: 1 } as const`
 */
export function NetEnum<const Members extends Readonly<Record<string, number>>>(members: Members) {
  return Type.Unsafe<NetEnumOf<Members>>({
    enum: Object.values(members),
    [NAMES]: Object.keys(members)
  })
}

interface Described {
  readonly enum?: readonly unknown[]
}

/** The number that a name stands for, where a schema is an enum of .NET. */
export function numberNamed(schema: Described, name: string): unknown {
  const names = (schema as Record<string, unknown>)[NAMES]
  if (!Array.isArray(names)) return undefined
  const found = names.findIndex((one) => String(one).toLowerCase() === name.toLowerCase())
  return found < 0 ? undefined : schema.enum?.[found]
}

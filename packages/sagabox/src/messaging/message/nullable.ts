import Type, { type TSchema } from 'typebox'

/** A field that is always there and may be null. */
export function nullable<T extends TSchema>(schema: T) {
  return Type.Union([schema, Type.Null()])
}

import type { TObject } from 'typebox'

/** A message that a saga makes from what an instance knows. */
export interface Composed<in Context, C = unknown> {
  readonly contract: C
  readonly compose: (context: Context) => object
}

/** What is needed of a contract here. */
interface Described {
  readonly schema: TObject
}

/** What a body must be given when the rest of it is taken from a context. */
export type Lacking<Body, Context> = {
  [
    Field in keyof Body as Field extends keyof Context
      ? Context[Field] extends Body[Field]
        ? never
        : Field
      : Field
  ]: Body[Field]
} & Partial<Body>

/** Refuses fields that a body has not. */
export type NoOthers<Fields, Body> = { [Field in Exclude<keyof Fields, keyof Body>]: never }

/**
 * A message whose fields are those of the context that have the same names, but for those given.
 */
export function composed<Context, C extends Described>(
  contract: C,
  fields?: (context: Context) => object
): Composed<Context, C> {
  const names = Object.keys(contract.schema.properties)
  return {
    contract,
    compose(context) {
      const known = names
        .map((name) => [name, (context as Record<string, unknown>)[name]] as const)
        .filter(([, value]) => value !== undefined)
      return { ...Object.fromEntries(known), ...fields?.(context) }
    }
  }
}

import Type from 'typebox'
import { text } from './text.ts'

/** The body of what a person does, and says why. */
export function bodyWithReason(description: string) {
  return Type.Object({ reason: text(500, description) }, { additionalProperties: false })
}

/**
 * What Sagabox itself throws. `code` names the class and stays when the text changes:
 * docs/reference/error-codes.md has them all.
 */
export abstract class SagaboxError extends Error {
  /** The name of the class in upper snake case, such as `MESSAGE_ID_REUSED`. */
  abstract readonly code: string
}

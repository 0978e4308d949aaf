import { SagaboxError } from './messaging/errors/sagabox-error.ts'

/**
 * The process cannot start, and the message says all there is to say: what was found, what was
 * expected, what to do.
 */
export class CannotStart extends SagaboxError {
  override readonly name: string = 'CannotStart'
  override readonly code: string = 'CANNOT_START'
  /** What the process exits with. */
  readonly exitCode: number = 1
}

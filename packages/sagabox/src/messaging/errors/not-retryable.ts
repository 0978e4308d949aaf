import { SagaboxError } from './sagabox-error.ts'

/** A failure that no retry can mend: the message becomes a dead letter at once. */
export class NotRetryable extends SagaboxError {
  override readonly name: string = 'NotRetryable'
  override readonly code: string = 'NOT_RETRYABLE'
}

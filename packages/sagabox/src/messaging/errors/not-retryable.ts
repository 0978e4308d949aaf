/** A failure that no retry can mend: the message becomes a dead letter at once. */
export class NotRetryable extends Error {
  override readonly name: string = 'NotRetryable'
}

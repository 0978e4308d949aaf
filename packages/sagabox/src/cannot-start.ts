/**
 * The process cannot start, and the message says all there is to say: what was found, what was
 * expected, what to do.
 */
export class CannotStart extends Error {
  override readonly name: string = 'CannotStart'
  /** What the process exits with. */
  readonly exitCode: number = 1
}

import { SagaboxError } from '../errors/sagabox-error.ts'

/** Nobody answered in time: the request may have been carried out or not. */
export class RequestTimedOut extends SagaboxError {
  override readonly name = 'RequestTimedOut'
  override readonly code = 'REQUEST_TIMED_OUT'
}

/** What failed where the request was handled. */
export interface RemoteException {
  readonly exceptionType: string
  readonly message?: string
}

/** The handler of the request failed for good; `exceptions` has how. */
export class RequestFailed extends SagaboxError {
  override readonly name = 'RequestFailed'
  override readonly code = 'REQUEST_FAILED'
  readonly exceptions: readonly RemoteException[]

  constructor(contract: string, exceptions: readonly RemoteException[]) {
    const { exceptionType = 'unknown', message = '' } = exceptions[0] ?? {}
    super(`${contract} failed where it was handled: ${exceptionType}: ${message}`)
    this.exceptions = exceptions
  }
}

/** The request was not sent: nobody takes it, or it cannot be asked. */
export class RequestNotSent extends SagaboxError {
  override readonly name = 'RequestNotSent'
  override readonly code = 'REQUEST_NOT_SENT'
}

/** The answer is none that the request can have. */
export class UnexpectedAnswer extends SagaboxError {
  override readonly name = 'UnexpectedAnswer'
  override readonly code = 'UNEXPECTED_ANSWER'
}

/** The process stops: the request may have been carried out or not. */
export class RequestAborted extends SagaboxError {
  override readonly name = 'RequestAborted'
  override readonly code = 'REQUEST_ABORTED'
}

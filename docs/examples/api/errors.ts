// Examples of the reference: errors. Imports are left out there.
import assert from 'node:assert/strict'
import {
  AskedInTransaction,
  CannotStart,
  contracts,
  DatabaseAway,
  DatabaseUrlError,
  DeadlyMessage,
  defineSaga,
  defineService,
  consoleServices,
  InvalidConsoleServices,
  InvalidContract,
  InvalidDuration,
  InvalidMessage,
  InvalidSaga,
  InvalidService,
  InvalidToken,
  MessageIdReused,
  MigrationEdited,
  MigrationFailed,
  MigrationsPending,
  NoAnswer,
  NoInstance,
  NotAllowed,
  NotInTransaction,
  NotMoved,
  NotRetryable,
  NotStartedYet,
  NowhereToSend,
  PublishInterrupted,
  PublishRefused,
  RequestAborted,
  RequestFailed,
  RequestNotSent,
  RequestTimedOut,
  startSagabox,
  Stranded,
  Swallowed,
  Type,
  UnexpectedAnswer,
  UnfitSession,
  UnknownMessageType,
  Unreachable,
  UnreadableMessage
} from 'sagabox'

// Example: InvalidContract, InvalidMessage, InvalidDuration, InvalidToken, InvalidSaga, InvalidService, InvalidConsoleServices, DatabaseUrlError
// Refused where it is written.
const shop = contracts('shop', { correlateBy: 'id' })
const Opened = shop.event('Opened', { id: Type.String() })

assert.throws(() => shop.event('Day.Closed', { id: Type.String() }), InvalidContract)
assert.throws(() => Opened({ id: '' }), InvalidMessage)
assert.throws(() => Opened({ id: 'a' }).after('soon'), InvalidDuration)
assert.throws(() => Opened({ id: 'a' }).after('1s', { token: '' }), InvalidToken)
assert.throws(() => defineSaga('day', { startedBy: Opened, steps: () => [] }), InvalidSaga)
assert.throws(() => defineService('My Shop', {}), InvalidService)
assert.throws(() => consoleServices('order'), InvalidConsoleServices)
await assert.rejects(
  startSagabox({ services: [defineService('shop', {})], databaseUrl: 'mysql://localhost/shop' }),
  DatabaseUrlError
)

// Example: CannotStart, MigrationEdited, MigrationFailed, MigrationsPending, UnfitSession, Unreachable
/** What the process should end with when it could not start; undefined: let it be tried again. */
function exitCode(error: unknown): number | undefined {
  if (error instanceof CannotStart) return error.exitCode
  const isForGood =
    error instanceof MigrationEdited || // a file was changed after it had run
    error instanceof MigrationFailed || // the database refuses it
    error instanceof MigrationsPending || // with migrate: 'check'
    error instanceof UnfitSession // the server is not what is needed
  if (isForGood) return 1
  return error instanceof Unreachable ? undefined : 2 // the broker
}
assert.equal(exitCode(new CannotStart('no room')), 1)

// Example: RequestTimedOut, RequestFailed, RequestNotSent, RequestAborted, UnexpectedAnswer, AskedInTransaction, NoAnswer
/** Whether a request may be asked again without being carried out twice. */
function wasNotCarriedOut(error: unknown): boolean {
  if (error instanceof RequestNotSent || error instanceof AskedInTransaction) return true
  const mayHaveBeen =
    error instanceof RequestTimedOut ||
    error instanceof RequestAborted ||
    error instanceof UnexpectedAnswer ||
    error instanceof NoAnswer // where it was handled
  // What its handler wrote was rolled back.
  return error instanceof RequestFailed || !mayHaveBeen
}
assert.equal(wasNotCarriedOut(new RequestTimedOut('GetPrice')), false)

// Example: DeadlyMessage, MessageIdReused, NoInstance, NotStartedYet, NowhereToSend, UnreadableMessage, UnknownMessageType
/** What a dead letter needs, by the error that its handling ended with. */
function adviceFor(error: unknown): string {
  if (error instanceof DeadlyMessage) return 'mend what ended the process; then retry'
  if (error instanceof MessageIdReused) return 'ask its sender: two messages have one id'
  if (error instanceof NoInstance) return 'its instance is gone: undo what it tells of'
  if (error instanceof NotStartedYet) return 'look for the message that starts the saga'
  if (error instanceof NowhereToSend) return 'list the contract in what the service sends'
  if (error instanceof UnknownMessageType) return 'nobody handles it here'
  if (error instanceof UnreadableMessage) return 'its sender writes it wrongly'
  return error instanceof NotRetryable ? 'mend the handler' : 'retry'
}
assert.match(adviceFor(new DeadlyMessage()), /^mend what/)

// Example: DatabaseAway, PublishInterrupted, PublishRefused, Swallowed, NotInTransaction, Stranded, NotMoved, NotAllowed
/** Whether the same work, done again, may succeed. */
function passes(error: unknown): boolean {
  if (error instanceof DatabaseAway || error instanceof PublishInterrupted) return true
  if (error instanceof PublishRefused) return error.concerns === 'destination'
  if (error instanceof NotMoved) return error.kind === 'conflict'
  const isMistake =
    error instanceof Swallowed || // a statement failed, and the work went on
    error instanceof NotInTransaction || // outbox.add on a connection without `begin`
    error instanceof NotAllowed // of a dead letter: it was sent back or deleted before
  // A process of another version may move what no machine here can.
  return error instanceof Stranded || !isMistake
}
assert.equal(passes(new PublishRefused('destination', 'the queue is full')), true)
assert.equal(passes(new Swallowed()), false)

// End of examples

// Examples of the reference: handlers. Imports are left out there.
import assert from 'node:assert/strict'
import {
  contracts,
  handle,
  handleBatch,
  NotRetryable,
  Refused,
  SagaboxError,
  Type,
  type Concurrency,
  type Handler,
  type Handling,
  type Message,
  type RetryPolicy,
  type Returned
} from 'sagabox'

const courier = contracts('courier', { correlateBy: 'parcelId' })
const parcelId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const Body = { parcelId: Type.String({ format: 'uuid' }), address: Type.String() }
const BookCourier = courier.command('BookCourier', Body)
const CourierBooked = courier.event('CourierBooked', Body)

// Example: handle, Handler, Handling, Returned
// One message at a time. A function of its own names what it is given and what it returns.
async function book(
  body: { parcelId: string; address: string },
  { tx }: Handling<typeof BookCourier>
): Promise<Returned> {
  const { parcelId: id, address } = body
  await tx.query('insert into bookings values ($1, $2) on conflict do nothing', [id, address])
  return CourierBooked(body)
}
const bookCourier: Handler = handle(BookCourier, book)
assert.deepEqual(bookCourier.contracts, [BookCourier])

// Example: handleBatch
// All messages of a transaction at once, for hot paths.
const bookCouriers = handleBatch(BookCourier, async (messages, tx) => {
  await tx.query(
    'insert into bookings select * from unnest($1::uuid[], $2::text[]) on conflict do nothing',
    [messages.map(({ body }) => body.parcelId), messages.map(({ body }) => body.address)]
  )
  return messages.map((message) => CourierBooked(message.body, message))
})
assert.deepEqual(bookCouriers.contracts, [BookCourier])

// Example: RetryPolicy
// Tried again at once, once; then after ten seconds; then it is a dead letter.
const retry: Partial<RetryPolicy> = {
  immediate: { times: 1, minMs: 50, maxMs: 500 },
  redeliverySeconds: [10],
  notRetryable: (error) => error instanceof RangeError
}
assert.equal(handle(BookCourier, book, { retry }).retry, retry)

// Example: Concurrency
// For defineService: at most 20 messages in hand in each process, in at most 2 transactions.
const concurrency: Concurrency = { messages: 20, transactions: 2 }
assert.equal(concurrency.messages, 20)

// Example: SagaboxError
// What Sagabox throws is told by its code, which stays when the text changes.
try {
  BookCourier({ parcelId, address: 7 as unknown as string })
} catch (error) {
  assert.ok(error instanceof SagaboxError)
  assert.equal(error.code, 'INVALID_MESSAGE')
}

// Example: NotRetryable, Refused
/** A dead letter at once: no retry can mend what is said here. */
class NoSuchStreet extends NotRetryable {
  override readonly code = 'NO_SUCH_STREET'
}
assert.throws(() => {
  throw new NoSuchStreet('There is no 400 St James Square')
}, NotRetryable)

/** Of a batch: the others are handled without them. */
function refuse(wrong: readonly Message[]): never {
  throw new Refused(new Map(wrong.map((message) => [message, new NoSuchStreet('no such street')])))
}
assert.throws(() => refuse([BookCourier({ parcelId, address: '400 St James Square' })]), Refused)

// End of examples

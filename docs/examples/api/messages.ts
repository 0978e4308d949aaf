// Examples of the reference: messages. Imports are left out there.
import assert from 'node:assert/strict'
import {
  command,
  contracts,
  event,
  faultOf,
  foreign,
  idOfKey,
  message,
  Type,
  type BodyOf,
  type CallableContract,
  type CallableRequest,
  type Cause,
  type CommandOptions,
  type Composed,
  type Contract,
  type ContractOptions,
  type Contracts,
  type ContractsOptions,
  type EventNaming,
  type EventOptions,
  type ExchangeType,
  type Foreign,
  type ForeignOptions,
  type LaterOptions,
  type Message,
  type Naming,
  type NewMessage,
  type RequestContract
} from 'sagabox'

const parcelId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const address = '12 St James Square'

// Example: contracts, Contracts, ContractsOptions, BodyOf, CallableContract
const Id = Type.String({ format: 'uuid' })
const common: ContractsOptions<'parcelId'> = { correlateBy: 'parcelId' }
const courier: Contracts<'parcelId'> = contracts('courier', common)

const BookCourier = courier.command('BookCourier', { parcelId: Id, address: Type.String() })
const CourierBooked: CallableContract<
  'CourierBooked',
  Type.TObject<{ parcelId: Type.TString }>
> = courier.event('CourierBooked', { parcelId: Id })

const booking: BodyOf<typeof BookCourier> = { parcelId, address }
assert.equal(BookCourier(booking).correlationId, parcelId)
assert.equal(CourierBooked.urn, 'urn:message:Contracts:CourierBooked')

// Example: Type
const Weight = { Light: 0, Heavy: 5 } as const
const Weighed = courier.event('Weighed', {
  parcelId: Id,
  fee: Type.Decimal(),
  weight: Type.NetEnum(Weight)
})
const heavy: Type.NetEnumOf<typeof Weight> = Weight.Heavy
assert.equal(Weighed({ parcelId, fee: '19.90', weight: heavy }).body.fee, '19.90')

// Example: CallableRequest, RequestContract
const Price = courier.response('Price', { amount: Type.Integer() })
const GetPrice: CallableRequest<
  'GetPrice',
  Type.TObject<{ address: Type.TString }>,
  typeof Price
> = courier.request('GetPrice', { address: Type.String() }, Price)
const asked: RequestContract = GetPrice
assert.equal(asked.response.name, 'Price')
assert.deepEqual(GetPrice({ address }).body, { address })

// Example: event, command, ContractOptions, EventOptions, CommandOptions, EventNaming, Naming
// By contracts() it is shorter; these take a schema that is there already.
const schema = Type.Object({ parcelId: Id })
const parcels: ContractOptions<typeof schema> = {
  owner: 'shipping',
  schema,
  correlateBy: 'parcelId'
}
const naming: Naming = { namespace: 'Acme.Shipping' }
const named: EventNaming = { ...naming, exchange: 'acme-parcel-lost' }
const lost: EventOptions = { ...named, optional: true }
const queued: CommandOptions = { ...naming, queue: 'find-parcel' }

assert.equal(event('ParcelLost', { ...parcels, ...lost }).exchange, 'acme-parcel-lost')
assert.equal(command('FindParcel', { ...parcels, ...queued }).queue, 'find-parcel')

// Example: message, Message, NewMessage, Cause, LaterOptions
const requested: Message<typeof BookCourier> = message(BookCourier, booking)
const cause: Cause = requested
const answer: NewMessage = CourierBooked({ parcelId }, cause)
assert.equal(answer.conversationId, requested.conversationId)

const named7: LaterOptions = { token: `remind ${parcelId}` }
const reminder: Message = CourierBooked({ parcelId }).after('7d', named7)
assert.notEqual(reminder.messageId, answer.messageId)

// Example: Contract
const names = (all: readonly Contract[]) => all.map(({ kind, owner, name }) => [kind, owner, name])
assert.deepEqual(names([BookCourier, CourierBooked]), [
  ['command', 'courier', 'BookCourier'],
  ['event', 'courier', 'CourierBooked']
])

// Example: Composed
// A message as a step of a saga sends it: fields of the same name come from the saga's context.
interface Parcel {
  parcelId: string
  street: string
}
const book: Composed<Parcel, Contract> = BookCourier.with(({ street }: Parcel) => ({
  address: street
}))
assert.deepEqual(book.compose({ parcelId, street: address }), booking)

// Example: foreign, Foreign, ForeignOptions, ExchangeType
const type: ExchangeType = 'topic'
const fields = { order: Type.String(), paid: Type.Integer() }
const theirs: ForeignOptions<typeof fields> = {
  exchange: 'webshop',
  type,
  key: 'order.*',
  fields,
  correlateBy: 'order'
}
const OrderPaid = foreign('OrderPaid', theirs)
const bound: Foreign | undefined = OrderPaid.foreign
assert.equal(bound?.key, 'order.*')

// Example: faultOf
// What is published when handling a message has failed for good.
assert.equal(faultOf(BookCourier).name, 'Fault<BookCourier>')

// Example: idOfKey
// Any text is an id; on the wire and in `saga_id` it is the UUID made of it.
assert.equal(idOfKey(parcelId), parcelId)
assert.equal(idOfKey('PARCEL-1'), '0de0369a-63dc-50f6-a5e9-c12fce0167b9')

// End of examples

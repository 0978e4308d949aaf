// What contracts may be, what their bodies are held to, and what they are called on the wire.
import t from 'tap'
import Type from 'typebox'
import { idOfKey, KEY_NAMESPACE, keyProblem } from '../../src/messaging/message/correlation.ts'
import { InvalidContract } from '../../src/messaging/message/contract-rules.ts'
import { contracts } from '../../src/messaging/message/contracts.ts'
import { EnvelopeReader, EnvelopeWriter } from '../../src/messaging/message/envelope.ts'
import { faultMessage, faultOf } from '../../src/messaging/message/fault.ts'
import { command, event } from '../../src/messaging/message/message.ts'
import { InvalidMessage } from '../../src/messaging/message/validate.ts'

const Text = Type.String()
const port = contracts('port', { correlateBy: 'ship' })
const Docked = port.event('Docked', {
  ship: Text,
  tons: Type.Integer({ minimum: 1 }),
  crew: Type.Optional(Type.Array(Type.Object({ name: Text })))
})

/** Of a contract, which is a function: patterns match objects alone. */
const partsOf = (contract: object): object => Object.fromEntries(Object.entries(contract))

t.test('a UUID is its own id, in any case; another text has the v5 UUID of it', async (t) => {
  const uuid = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
  t.equal(idOfKey(uuid), uuid)
  t.equal(idOfKey(uuid.toUpperCase()), uuid)
  t.equal(KEY_NAMESPACE, 'f13aa56a-a1f2-5bfd-994c-b2b1e0d407f8', 'on the wire and in tables')
  t.equal(idOfKey('PARCEL-1'), '0de0369a-63dc-50f6-a5e9-c12fce0167b9')
  t.not(idOfKey('PARCEL-1'), idOfKey('parcel-1'), 'case counts')
  t.not(idOfKey(`{${uuid}}`), uuid, 'braces make another text')
})

t.test('a key is any text that PostgreSQL and UTF-8 keep, of 1 to 255 bytes', async (t) => {
  const good = ['a', '..', 'a/b?c#d%2F', 'Grüße 🚢', ' ', "'; drop table saga", 'é'.repeat(127)]
  for (const key of good) t.equal(keyProblem(key), undefined, key)
  t.match(keyProblem(''), /not empty/)
  t.match(keyProblem('a\0b'), /NUL/)
  t.match(keyProblem('\ud83d'), /surrogate/)
  t.equal(keyProblem('é'.repeat(128)), 'expected at most 255 bytes, got 256')
})

t.test('a body is held to its contract where the message is made', async (t) => {
  const bad = (body: unknown, expected: string) =>
    t.throws(() => Docked(body as never), new InvalidMessage(`Docked cannot be sent: ${expected}`))
  bad({ ship: 'a', tons: '3' }, 'tons must be integer, got "3"')
  bad({ ship: 'a' }, 'tons is required, got nothing')
  bad({ tons: 1 }, 'ship is required, got nothing')
  bad({ ship: 'a', tons: 0 }, 'tons must be >= 1, got 0')
  bad(
    { ship: 'a', tons: 1, crew: [{ name: 'x' }, { name: 5 }] },
    'crew[1].name must be string, got 5'
  )
  bad({ ship: 'a', tons: Number.NaN }, 'tons must be integer, got NaN')
  bad(
    { ship: 'x'.repeat(256), tons: 1 },
    'ship names what it is about: expected at most 255 bytes, got 256'
  )
  bad({ ship: '', tons: 1 }, 'ship names what it is about: expected a text that is not empty')
  bad(undefined, 'its body must be object, got nothing')
  t.match(Docked({ ship: 'a', tons: 1, crew: undefined }).body, { ship: 'a', tons: 1 })
  t.equal(Docked({ ship: 'a', tons: 1 }).correlationId, idOfKey('a'))
})

t.test('a text goes over the wire with its id, and a hostile one is refused', async (t) => {
  const writer = new EnvelopeWriter('loopback://localhost/', 'port')
  const reader = new EnvelopeReader([Docked])
  const sent = Docked({ ship: 'A/ä', tons: 1 })
  const written = writer.write(sent)
  t.equal(JSON.parse(written).correlationId, idOfKey('A/ä'))
  const { body, correlationId } = reader.read(written)
  t.same([body, correlationId], [{ ship: 'A/ä', tons: 1 }, idOfKey('A/ä')])
  const hostile = (ship: string) => () =>
    reader.read(JSON.stringify({ ...JSON.parse(written), message: { ship, tons: 1 } }))
  t.throws(hostile(''), { message: /^message\.ship: / })
  t.throws(hostile('\0'), { message: /^message\.ship: / })
  t.throws(hostile('\ud83d'), { message: /^message\.ship: / })
  t.throws(hostile('x'.repeat(256)), { message: /^message\.ship: / })
})

t.test('a fault of a message is about the same, whatever is in it', async (t) => {
  const failed = { ...Docked({ ship: 'a', tons: 1 }), body: { ship: 'a', tons: -1 } }
  const fault = faultMessage(failed, { type: 'Error', text: 'x' })
  t.equal(fault.correlationId, idOfKey('a'))
})

t.test('names: own namespaces, urns, exchanges and queues', async (t) => {
  const acme = contracts('port', { correlateBy: 'ship', namespace: 'Acme.Port' })
  t.match(partsOf(acme.event('Sailed', { ship: Text })), {
    urn: 'urn:message:Acme.Port:Sailed',
    exchange: 'Acme.Port:Sailed'
  })
  t.match(partsOf(acme.event('Log+Entry', { ship: Text }, { namespace: 'Acme.Log' })), {
    urn: 'urn:message:Acme.Log:Log+Entry',
    exchange: 'Acme.Log:Log-Entry'
  })
  const named = acme.event(
    'Moored',
    { ship: Text },
    { urn: 'urn:message:moored', exchange: 'moored-events', takenBy: ['customs'] }
  )
  t.match(partsOf(named), {
    urn: 'urn:message:moored',
    exchange: 'moored-events',
    takenBy: ['customs']
  })
  t.match(faultOf(named), {
    urn: 'urn:message:MassTransit:Fault[[moored]]',
    exchange: 'MassTransit:Fault--moored-events--'
  })
  t.equal(acme.command('Unload', { ship: Text }, { queue: 'unload-ship' }).queue, 'unload-ship')
})

t.test('what cannot be carried is refused where it is declared', async (t) => {
  const refused = (declare: () => unknown, message: RegExp) => {
    t.throws(declare, InvalidContract)
    t.throws(declare, { message, code: 'INVALID_CONTRACT' })
  }
  const fields = { ship: Text }
  const schema = Type.Object({ ship: Text, deck: Type.Optional(Text), tons: Type.Integer() })
  const by = (correlateBy: string) => () =>
    event('Docked', { owner: 'port', schema, correlateBy: correlateBy as 'ship' })
  refused(
    by('captain'),
    /^Contract Docked: correlateBy is captain, which is none of its fields \(ship, deck, tons\)$/
  )
  refused(by('deck'), /deck, which is optional/)
  refused(by('tons'), /tons, which is integer; expected a text/)
  refused(by(undefined as never), /expected correlateBy to name a field, got nothing/)
  for (const owner of ['', undefined, 5, 'a b', 'a#b', 'ü'])
    refused(
      () => command('Unload', { owner: owner as string, schema, correlateBy: 'ship' }),
      /^Contract Unload: (it has no owner|expected owner to be a name)/
    )
  refused(() => contracts('', { correlateBy: 'ship' }), /expected owner/)
  refused(
    () => contracts('port', { correlateBy: 'ship', namespace: 'a b' }),
    /expected a namespace/
  )
  refused(() => contracts('x'.repeat(248), { correlateBy: 'ship' }), /256 bytes with _skipped/)
  for (const name of ['', 'a b', 'a.b', '1st', 'Gruß', '*', 'a:b', 5 as never])
    refused(() => port.event(name, fields), /expected a name of letters/)
  for (const namespace of ['', 'a:b', '.a', 'a..b', 'a/b'])
    refused(() => port.event('Docked', fields, { namespace }), /expected a namespace/)
  refused(() => port.event('Docked', fields, { urn: 'nothing' }), /expected a urn/)
  refused(() => port.event('Docked', fields, { exchange: 'a b' }), /expected exchange/)
  refused(() => port.event('Docked', fields, { takenBy: [''] }), /expected takenBy/)
  refused(() => port.command('Dock', fields, { queue: 'a/b' }), /expected queue/)
  refused(
    () => port.event('x'.repeat(230), fields),
    /its exchange of faults MassTransit.* bytes; expected at most 255/
  )
  refused(() => port.event('Docked', { ship: Text, type: Text }), /a field named type/)
})

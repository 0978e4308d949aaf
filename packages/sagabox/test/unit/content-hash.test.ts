import t from 'tap'
import { contentHash } from '../../src/messaging/message/content-hash.ts'
import type { Message } from '../../src/messaging/message/message.ts'
import { DockShip, ShipSailedEvent } from '../../../../test/support/harbour.ts'

function hashOf(json: string, contract: Message['contract'] = DockShip): string {
  return contentHash({ contract, body: JSON.parse(json) as Message['body'] })
}

t.test('the same content has the same hash, however it is written', async (t) => {
  const hash = hashOf('{"a":1,"b":{"c":"x","d":[1,2]}}')
  t.match(hash, /^[0-9a-f]{32}$/)
  t.equal(
    hashOf('{ "b": {"d":[1, 2.0], "c":"\\u0078"}, "a":1e0 }'),
    hash,
    'order, white space, escapes'
  )
  t.equal(hashOf('{"a":1,"b":{"c":"x","d":[1,2],"e":null},"f":null}'), hash, 'null is absent')
  t.equal(
    contentHash({
      contract: Object.assign({}, DockShip, { urn: 'urn:message:Other:DockShip' }),
      body: JSON.parse('{"b":{"c":"x","d":[1,2]},"a":1}') as Message['body']
    }),
    hash,
    'in another namespace'
  )
})

t.test('other content has another hash', async (t) => {
  const texts = [
    '{}',
    '{"a":1}',
    '{"a":"1"}',
    '{"a":true}',
    '{"a":"true"}',
    '{"a":[1]}',
    '{"a":[1,null]}',
    '{"a":{"b":1}}',
    '{"a":{},"b":1}',
    '{"a":"1,1:b1"}',
    '{"a":"1","b":1}',
    '{"a":[[],[]]}',
    '{"a":[[[]]]}',
    '{"a":"é"}',
    '{"a":"e\\u0301"}',
    '{"__proto__":1}',
    '{"__proto__":{}}'
  ]
  t.equal(new Set(texts.map((text) => hashOf(text))).size, texts.length)
  t.not(hashOf('{"a":1}', ShipSailedEvent), hashOf('{"a":1}'), 'of another type')
})

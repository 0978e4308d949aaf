import Type from 'typebox'

/** Request header: what was done under a key is not done again. */
export const IdempotencyHeaders = Type.Object({
  'idempotency-key': Type.Optional(
    Type.String({
      pattern: '^[\\x21-\\x7e]{1,255}$',
      description: 'Up to 255 printable ASCII characters: the same key and body are one request'
    })
  )
})

/** Answer header. */
export const idempotentReplayed = {
  'idempotent-replayed': {
    type: 'string',
    description: 'true when this repeats an earlier request'
  }
}

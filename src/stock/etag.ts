import Type from 'typebox'
import { HttpProblem } from 'sagabox/fastify'

/** Request header: only if the product is as it was read. */
export const IfMatchHeaders = Type.Object({
  'if-match': Type.Optional(
    Type.String({
      maxLength: 1000,
      description: '`ETag` of the product as you read it; needed to replace `onHand`'
    })
  )
})

/** Answer header. */
export const etagHeader = {
  etag: {
    type: 'string',
    description: 'Names the version; it changes with every change, orders included'
  }
}

export function etagOf({ version }: { version: number }): string {
  return `"${version}"`
}

const TAG = /^(?:W\/)?"(?<tag>[\x21\x23-\x7e]*)"$/

/**
 * The versions that an If-Match names; undefined when there is none. Weak ones count too: proxies
 * that compress make them so. Tags that are none of ours are no version.
 * @throws HttpProblem 400 when it is no list of ETags; `*`, which fits whatever is there, is none
 */
export function versionsOf(ifMatch: string | undefined): number[] | undefined {
  if (ifMatch === undefined) return undefined
  return ifMatch.split(',').map((one) => {
    const tag = TAG.exec(one.trim())?.groups?.['tag']
    if (tag === undefined) {
      throw new HttpProblem(400, `If-Match is ${ifMatch}, which is no list of ETags`, [
        {
          field: 'If-Match',
          expected: 'must be the ETag of the product as you read it, in its quotes: "5"'
        }
      ])
    }
    return /^\d{1,15}$/.test(tag) ? Number(tag) : -1
  })
}

import { type Audit, HttpProblem, notFound } from 'sagabox/fastify'
import { Conflict, retryConflicts, transaction } from 'sagabox/engine'
import type { Database, Tx } from 'sagabox'
import { MAX_UNITS } from './restock.ts'
import type { Product } from './entities.ts'

// No key keeps two requests from making the same product: its versions have keys of their own. The
// samples of a first start come without the lock, with the same first version.
const LOCK_NAME = `select pg_advisory_xact_lock(hashtext('sagabox.product'), hashtext($1))`

// Whoever moves units has the row locked: what is read here stays so until the commit.
const LOCK = `
  select version::float8 as version, on_hand::float8 as "onHand" from products
  where product_id = $1 order by version desc limit 1 for update`

const VIEW = `product_id as "productId", name, unit_price::float8 as "unitPrice", currency,
  on_hand::float8 as "onHand", reserved::float8 as reserved, version::float8 as version`

const INSERT = `
  insert into products (product_id, name, unit_price, currency, on_hand) values ($1, $2, $3, $4, $5)
  on conflict (product_id, version) do nothing returning ${VIEW}`

const UPDATE = `
  update products set name = coalesce($2, name), unit_price = coalesce($3, unit_price),
    currency = coalesce($4, currency), on_hand = coalesce($5, on_hand), version = version + 1, updated_at = now()
  where product_id = $1 returning ${VIEW}`

export interface ProductChange {
  name?: string
  /** Minor units. */
  unitPrice?: number
  currency?: string
  onHand?: number
}

/**
 * Makes a product, or replaces what is given of it.
 * @param versions those under which `onHand` may be replaced; undefined when the request named none
 * @returns the product as it is now
 * @throws HttpProblem 400 when it is to be made without units, 412 when it has another version, 428
 * when `onHand` of a product that is there came without a version
 */
export function putProduct(
  database: Database,
  productId: string,
  given: ProductChange,
  versions: readonly number[] | undefined,
  audit: (status: number) => Audit
): Promise<{ product: Product; created: boolean }> {
  return changeProduct(database, async (tx) => {
    await tx.query(LOCK_NAME, [productId])
    const found = await lock(tx, productId)
    if (found) {
      if (versions || given.onHand !== undefined) checkVersion(productId, found, versions)
      audit(200)(tx)
      return { product: await update(tx, productId, given), created: false }
    }
    if (versions)
      throw new HttpProblem(412, `There is no product ${productId} to replace`, [
        ifMatch('must be left out to create a product')
      ])
    const { name, unitPrice, currency, onHand } = given
    if (onHand === undefined) {
      throw new HttpProblem(
        400,
        `There is no product ${productId}, and it cannot be created without onHand`,
        [{ field: 'onHand', expected: `must be given to create a product: 0 to ${MAX_UNITS}` }]
      )
    }
    const {
      rows: [product]
    } = await tx.query<Product>(INSERT, [productId, name, unitPrice, currency, onHand])
    if (!product) throw new Conflict(`${productId} was made at the same time`)
    audit(201)(tx)
    return { product, created: true }
  })
}

/**
 * Changes name, price or currency of a product, never its units.
 * @param versions those that may be changed; undefined: any
 * @throws HttpProblem 404 when there is no such product, 412 when it has another version
 */
export async function patchProduct(
  database: Database,
  productId: string,
  given: Omit<ProductChange, 'onHand'>,
  versions: readonly number[] | undefined,
  audit: Audit
): Promise<Product> {
  return changeProduct(database, async (tx) => {
    const found = await lock(tx, productId)
    if (!found) throw notFound(`product ${productId}`)
    if (versions) checkVersion(productId, found, versions)
    audit(tx)
    return update(tx, productId, given)
  })
}

function changeProduct<R>(database: Database, work: (tx: Tx) => Promise<R>): Promise<R> {
  return retryConflicts(() => transaction(database, work))
}

interface Found {
  version: number
  onHand: number
}

async function lock(tx: Tx, productId: string): Promise<Found | undefined> {
  return (await tx.query<Found>(LOCK, [productId])).rows[0]
}

async function update(tx: Tx, productId: string, given: ProductChange): Promise<Product> {
  const { name, unitPrice, currency, onHand } = given
  const { rows } = await tx.query<Product>(UPDATE, [productId, name, unitPrice, currency, onHand])
  return rows[0]!
}

/**
 * Orders, releases and restocks move the units meanwhile: a number read before may not be put over
 * theirs.
 */
function checkVersion(
  productId: string,
  { version, onHand }: Found,
  versions: readonly number[] | undefined
): void {
  if (!versions) {
    throw new HttpProblem(
      428,
      `${productId} is there, and its onHand moves with every order: to replace it, say which version you have read`,
      [
        ifMatch(
          'must be the ETag that GET or PUT of this product answered; to change only name, price or currency, leave onHand out'
        )
      ]
    )
  }
  if (versions.includes(version)) return
  throw new HttpProblem(
    412,
    `${productId} has changed since you read it: it has ${onHand} units on hand now`,
    [ifMatch('must be the ETag of the product as it is: read it again')]
  )
}

function ifMatch(expected: string) {
  return { field: 'If-Match', expected }
}

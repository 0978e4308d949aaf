import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { MoreThan, type DataSource } from 'typeorm'
import { Currency, NAME, Name } from '../contracts/types.ts'
import { IdempotencyHeaders, idempotentReplayed } from '../http/idempotency.ts'
import { nullable } from '../http/nullable.ts'
import { decodeCursor, DEFAULT_LIMIT, Page, PageQuery, toPage } from '../http/page.ts'
import { notFound } from '../http/problem.ts'
import { text } from '../http/text.ts'
import { retryConflicts } from '../messaging/conflict.ts'
import { transaction } from '../messaging/sql.ts'
import { MAX_UNITS, restock } from './restock.ts'
import { ProductEntity, ReservationEntity, type Product, type Reservation } from './tables.ts'

const Units = Type.Integer({ minimum: 0, maximum: MAX_UNITS })

const NewProduct = Type.Object(
  {
    name: text(200),
    unitPrice: Type.Integer({ minimum: 0, maximum: 1_000_000_000, description: 'Minor units' }),
    currency: Currency,
    onHand: Type.Integer({ ...Units, description: 'Units that can be reserved' })
  },
  { additionalProperties: false, examples: [{ name: 'Mechanical keyboard', unitPrice: 8900, currency: 'EUR', onHand: 100 }] }
)

const ProductView = Type.Object({
  productId: Type.String(),
  name: Type.String(),
  unitPrice: Type.Integer(),
  currency: Type.String(),
  onHand: Type.Integer({ description: 'Units that can still be reserved' }),
  reserved: Type.Integer({ description: 'Units held for orders' })
})

const ReservationView = Type.Object({
  orderId: Type.String(),
  status: Type.Enum(['Reserved', 'Refused', 'Released']),
  reason: nullable(Type.String()),
  productId: nullable(Type.String()),
  total: nullable(Type.Integer()),
  currency: nullable(Type.String()),
  lines: Type.Array(Type.Object({ productId: Type.String(), quantity: Type.Integer(), unitPrice: Type.Integer() })),
  createdAt: Type.String(),
  updatedAt: Type.String()
})

const ById = Type.Object({ productId: Name })
const tags = ['stock']

// No key keeps two requests from making the same product: its versions have keys of their own. The samples of a first start come
// without the lock, with the same first version: hence the conflict clause.
const LOCK_NAME = `select pg_advisory_xact_lock(hashtext('sagabox.product'), hashtext($1))`

const VIEW = `product_id as "productId", name, unit_price::float8 as "unitPrice", currency, on_hand::float8 as "onHand", reserved::float8 as reserved`

const UPSERT = `
  with replaced as (
    update products set name = $2, unit_price = $3, currency = $4, on_hand = $5, updated_at = now() where product_id = $1 returning *
  ), made as (
    insert into products (product_id, name, unit_price, currency, on_hand)
    select $1, $2, $3, $4, $5 where not exists (select from replaced)
    on conflict (product_id, version) do update
      set name = excluded.name, unit_price = excluded.unit_price, currency = excluded.currency, on_hand = excluded.on_hand, updated_at = now()
    returning *, xmax = 0 as created
  )
  select ${VIEW}, false as created from replaced union all select ${VIEW}, created from made`

export function stockRoutes(dataSource: DataSource): FastifyPluginAsyncTypebox {
  const products = () => dataSource.getRepository(ProductEntity)
  const reservations = () => dataSource.getRepository(ReservationEntity)
  const find = async (productId: string): Promise<Product> => {
    const product = await products().findOneBy({ productId })
    if (!product) throw notFound(`product ${productId}`)
    return product
  }

  return async (app) => {
    app.put(
      '/products/:productId',
      { schema: { tags, summary: 'Create a product, or replace name, price and units on hand', params: ById, body: NewProduct, response: { 200: ProductView, 201: ProductView } } },
      async ({ params: { productId }, body: { name, unitPrice, currency, onHand } }, reply) => {
        const [{ created, ...product }] = await retryConflicts(() =>
          transaction(dataSource, async (tx) => {
            await tx.query(LOCK_NAME, [productId])
            return tx.query<[Product & { created: boolean }]>(UPSERT, [productId, name, unitPrice, currency, onHand])
          })
        )
        return reply.code(created ? 201 : 200).send(product)
      }
    )

    app.get('/products/:productId', { schema: { tags, summary: 'One product', params: ById, response: { 200: ProductView } } }, ({ params: { productId } }) => find(productId))

    app.get(
      '/products',
      { schema: { tags, summary: 'Products by id', querystring: Type.Object(PageQuery, { additionalProperties: false }), response: { 200: Page(ProductView) } } },
      async ({ query: { cursor, limit = DEFAULT_LIMIT } }) => {
        const after = decodeCursor(cursor, NAME)
        const found = await products().find({ where: after ? { productId: MoreThan(after) } : {}, order: { productId: 'ASC' }, take: limit + 1 })
        return toPage(found, limit, (product) => product.productId)
      }
    )

    app.post(
      '/products/:productId/restock',
      {
        schema: {
          tags,
          summary: 'Add units',
          description: 'With an `Idempotency-Key` a repeated request adds nothing more; it is answered with the product as it is now.',
          params: ById,
          headers: IdempotencyHeaders,
          body: Type.Object({ quantity: Type.Integer({ minimum: 1, maximum: 1_000_000 }) }, { additionalProperties: false }),
          response: { 200: { ...ProductView, headers: idempotentReplayed } }
        }
      },
      async ({ params: { productId }, headers: { 'idempotency-key': idempotencyKey }, body: { quantity } }, reply) => {
        const { product, replayed } = await restock(dataSource, { productId, quantity, idempotencyKey })
        if (replayed) reply.header('idempotent-replayed', 'true')
        return reply.send(product)
      }
    )

    app.get(
      '/reservations/:orderId',
      { schema: { tags, summary: 'What is held for an order', params: Type.Object({ orderId: Type.String({ format: 'uuid' }) }), response: { 200: ReservationView } } },
      async ({ params: { orderId } }) => {
        const reservation = await reservations().findOne({ where: { orderId }, relations: { lines: true } })
        if (!reservation) throw notFound(`reservation for order ${orderId}`)
        return toView(reservation)
      }
    )
  }
}

function toView({ createdAt, updatedAt, lines, ...reservation }: Reservation) {
  return { ...reservation, lines: lines.map(({ productId, quantity, unitPrice }) => ({ productId, quantity, unitPrice })), createdAt: createdAt.toISOString(), updatedAt: updatedAt.toISOString() }
}

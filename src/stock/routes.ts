import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import Type from 'typebox'
import { MoreThan } from 'typeorm'
import {
  auditOf,
  decodeCursor,
  DEFAULT_LIMIT,
  IdempotencyHeaders,
  idempotentReplayed,
  notFound,
  nullable,
  Page,
  PageQuery,
  text,
  toPage
} from 'sagabox/fastify'
import type { Database } from 'sagabox'
import { typeorm } from 'sagabox/typeorm'
import { Currency, NAME, Name } from '../contracts/types.ts'
import { etagHeader, etagOf, IfMatchHeaders, versionsOf } from './etag.ts'
import { patchProduct, putProduct } from './put-product.ts'
import { MAX_UNITS, restock } from './restock.ts'
import {
  STOCK_ENTITIES,
  ProductEntity,
  ReservationEntity,
  type Product,
  type Reservation
} from './entities.ts'

const Units = Type.Integer({ minimum: 0, maximum: MAX_UNITS })

const NAMED = {
  name: text(200),
  unitPrice: Type.Integer({ minimum: 0, maximum: 1_000_000_000, description: 'Minor units' }),
  currency: Currency
}

const NewProduct = Type.Object(
  {
    ...NAMED,
    onHand: Type.Optional(
      Type.Integer({
        ...Units,
        description: 'Units that can be reserved; left out, they stay as they are'
      })
    )
  },
  {
    additionalProperties: false,
    examples: [{ name: 'Mechanical keyboard', unitPrice: 8900, currency: 'EUR', onHand: 100 }]
  }
)

const ChangedProduct = Type.Partial(Type.Object(NAMED), {
  additionalProperties: false,
  minProperties: 1,
  examples: [{ unitPrice: 9900 }]
})

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
  lines: Type.Array(
    Type.Object({ productId: Type.String(), quantity: Type.Integer(), unitPrice: Type.Integer() })
  ),
  createdAt: Type.String(),
  updatedAt: Type.String()
})

const ById = Type.Object({ productId: Name })
const tags = ['stock']

export function stockRoutes(database: Database): FastifyPluginAsyncTypebox {
  const entities = () => typeorm(database, STOCK_ENTITIES)
  const products = async () => (await entities()).getRepository(ProductEntity)
  const reservations = async () => (await entities()).getRepository(ReservationEntity)
  const find = async (productId: string): Promise<Product> => {
    const product = await (await products()).findOneBy({ productId })
    if (!product) throw notFound(`product ${productId}`)
    return product
  }

  return async (app) => {
    app.put(
      '/products/:productId',
      {
        schema: {
          permission: 'product:write',
          target: 'product :productId',
          tags,
          summary: 'Create a product, or replace name, price, currency and units on hand',
          description:
            'Units move with every order: to replace `onHand` of a product that is there, send its `ETag` as `If-Match`. 428 without, 412 when it has changed. Without `onHand` only the rest is replaced.',
          params: ById,
          headers: IfMatchHeaders,
          body: NewProduct,
          response: {
            200: { ...ProductView, headers: etagHeader },
            201: { ...ProductView, headers: etagHeader }
          }
        }
      },
      async (request, reply) => {
        const { headers, body } = request
        const { product, created } = await putProduct(
          database,
          request.params.productId,
          body,
          versionsOf(headers['if-match']),
          (status) => auditOf(request, { status })
        )
        return reply
          .code(created ? 201 : 200)
          .header('etag', etagOf(product))
          .send(product)
      }
    )

    app.patch(
      '/products/:productId',
      {
        schema: {
          permission: 'product:write',
          target: 'product :productId',
          tags,
          summary: 'Change name, price or currency',
          description: 'Orders that are reserved keep the price they were reserved for.',
          params: ById,
          headers: IfMatchHeaders,
          body: ChangedProduct,
          response: { 200: { ...ProductView, headers: etagHeader } }
        }
      },
      async (request, reply) => {
        const { headers, body } = request
        const product = await patchProduct(
          database,
          request.params.productId,
          body,
          versionsOf(headers['if-match']),
          auditOf(request)
        )
        return reply.header('etag', etagOf(product)).send(product)
      }
    )

    app.get(
      '/products/:productId',
      {
        schema: {
          permission: 'public',
          tags,
          summary: 'One product',
          params: ById,
          response: { 200: { ...ProductView, headers: etagHeader } }
        }
      },
      async ({ params: { productId } }, reply) => {
        const product = await find(productId)
        return reply.header('etag', etagOf(product)).send(product)
      }
    )

    app.get(
      '/products',
      {
        schema: {
          permission: 'public',
          tags,
          summary: 'Products by id',
          querystring: Type.Object(PageQuery, { additionalProperties: false }),
          response: { 200: Page(ProductView) }
        }
      },
      async ({ query: { cursor, limit = DEFAULT_LIMIT } }) => {
        const after = decodeCursor(cursor, NAME)
        const found = await (
          await products()
        ).find({
          where: after ? { productId: MoreThan(after) } : {},
          order: { productId: 'ASC' },
          take: limit + 1
        })
        return toPage(found, limit, (product) => product.productId)
      }
    )

    app.post(
      '/products/:productId/restock',
      {
        schema: {
          permission: 'product:write',
          target: 'product :productId',
          tags,
          summary: 'Add units',
          description:
            'With an `Idempotency-Key` a repeated request adds nothing more; it is answered with the product as it is now.',
          params: ById,
          headers: IdempotencyHeaders,
          body: Type.Object(
            { quantity: Type.Integer({ minimum: 1, maximum: 1_000_000 }) },
            { additionalProperties: false }
          ),
          response: { 200: { ...ProductView, headers: { ...idempotentReplayed, ...etagHeader } } }
        }
      },
      async (request, reply) => {
        const { productId } = request.params
        const { quantity } = request.body
        const idempotencyKey = request.headers['idempotency-key']
        const { product, replayed } = await restock(
          database,
          { productId, quantity, idempotencyKey },
          auditOf(request)
        )
        if (replayed) reply.header('idempotent-replayed', 'true')
        return reply.header('etag', etagOf(product)).send(product)
      }
    )

    app.get(
      '/reservations/:orderId',
      {
        schema: {
          permission: 'reservation:read',
          tags,
          summary: 'What is held for an order',
          params: Type.Object({ orderId: Type.String({ format: 'uuid' }) }),
          response: { 200: ReservationView }
        }
      },
      async ({ params: { orderId } }) => {
        const reservation = await (
          await reservations()
        ).findOne({
          where: { orderId },
          relations: { lines: true }
        })
        if (!reservation) throw notFound(`reservation for order ${orderId}`)
        return toView(reservation)
      }
    )
  }
}

function toView({ createdAt, updatedAt, lines, ...reservation }: Reservation) {
  return {
    ...reservation,
    lines: lines.map(({ productId, quantity, unitPrice }) => ({ productId, quantity, unitPrice })),
    createdAt: createdAt.toISOString(),
    updatedAt: updatedAt.toISOString()
  }
}

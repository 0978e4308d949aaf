import { until } from './until.ts'

export interface Answer {
  status: number
  headers: Headers
  text: string
  // oxlint-disable-next-line typescript/no-explicit-any -- what a server answers is looked at, not trusted
  body: any
}

export interface OrderRequest {
  customerId?: string
  items?: { productId: string; quantity: number }[]
  paymentMethod?: string
  expectedTotal?: number
}

/** The HTTP API as its users call it; order, stock and payment may have addresses of their own. */
export class Api {
  readonly #urls: { order: string; stock: string; payment: string }

  constructor(urls: string | { order: string; stock: string; payment: string }) {
    this.#urls = typeof urls === 'string' ? { order: urls, stock: urls, payment: urls } : urls
  }

  /** @param body sent as JSON, a string as it is */
  async call(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {}
  ): Promise<Answer> {
    const response = await fetch(this.#baseOf(path) + path, {
      method,
      headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
      body: body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
    })
    const text = await response.text()
    const isJson = /[/+]json\b/.test(response.headers.get('content-type') ?? '')
    return {
      status: response.status,
      headers: response.headers,
      text,
      body: isJson ? JSON.parse(text) : text
    }
  }

  async get(path: string): Promise<Answer['body']> {
    const { status, body } = await this.call('GET', path)
    if (status !== 200) throw new Error(`GET ${path} answered ${status}: ${JSON.stringify(body)}`)
    return body
  }

  /** Puts the product on the shelf as it is given, whatever has become of it since. */
  async putProduct(
    productId: string,
    onHand: number,
    unitPrice = 1000,
    currency = 'EUR'
  ): Promise<void> {
    const path = `/products/${productId}`
    for (let headers = {}; ;) {
      const { status, body } = await this.call(
        'PUT',
        path,
        { name: productId, unitPrice, currency, onHand },
        headers
      )
      if (status === 200 || status === 201) return
      if (status !== 428 && status !== 412)
        throw new Error(`PUT ${path} answered ${status}: ${JSON.stringify(body)}`)
      headers = { 'if-match': (await this.call('GET', path)).headers.get('etag')! }
    }
  }

  /** Places an order and returns its id. */
  async placeOrder({
    customerId = 'ada',
    items = [{ productId: 'keyboard', quantity: 1 }],
    paymentMethod = 'pm_card_visa',
    ...rest
  }: OrderRequest = {}): Promise<string> {
    const { status, body } = await this.call('POST', '/orders', {
      customerId,
      items,
      paymentMethod,
      ...rest
    })
    if (status !== 202) throw new Error(`POST /orders answered ${status}: ${JSON.stringify(body)}`)
    return body.orderId
  }

  /** Waits until the order has ended and nothing is left to undo. Returns its saga. */
  settled(orderId: string): Promise<Answer['body']> {
    let last: Answer['body']
    const look = async () => {
      last = await this.get(`/sagas/${orderId}`)
      return (last.state === 'Completed' || last.state === 'Failed.settled') && last
    }
    return until(`order ${orderId} has settled`, look, {
      progress: () => `${last?.state}, after ${last?.history?.length} steps`,
      tell: () => JSON.stringify(last?.waitingFor) ?? ''
    })
  }

  #baseOf(path: string): string {
    if (/^\/(products|reservations|ops\/stock)/.test(path)) return this.#urls.stock
    if (/^\/(payments|ops\/payment)/.test(path)) return this.#urls.payment
    return this.#urls.order
  }
}

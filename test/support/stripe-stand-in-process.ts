// A part of Stripe's API in a process of its own: PaymentIntents, refunds, idempotency keys,
// errors, as Stripe documents them. The payment method's name, or a script given to /stand-in, says
// how a request goes. Tells its parent the port; ends when the parent disconnects.
import { appendFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import type { Behaviour, LedgerEntry, ReceivedRequest, StandInControl } from './stripe-stand-in.ts'

interface Intent {
  id: string
  object: 'payment_intent'
  amount: number
  amount_received: number
  currency: string
  metadata: Record<string, string>
  payment_method: string | null
  status:
    | 'requires_payment_method'
    | 'requires_confirmation'
    | 'processing'
    | 'succeeded'
    | 'canceled'
  last_payment_error: Record<string, unknown> | null
  latest_charge: string | null
  created: number
}

interface Charge {
  id: string
  object: 'charge'
  amount: number
  amount_refunded: number
  refunded: boolean
  refunds: Refund[]
}

interface Refund {
  id: string
  object: 'refund'
  amount: number
  payment_intent: string
  status: 'succeeded' | 'pending' | 'failed'
  failure_reason?: string
}

interface Reply {
  status: number
  body: unknown
}

/** Stripe's answer to a request that it will not serve. */
class ApiError extends Error {
  readonly status: number
  readonly error: Record<string, unknown>

  constructor(status: number, error: Record<string, unknown> & { message: string }) {
    super(error.message)
    this.status = status
    this.error = error
  }
}

/** The connection is cut: nobody hears the answer. */
class Cut extends Error {}

const {
  ledger,
  port,
  key: secretKey
} = JSON.parse(process.argv[2]!) as { ledger: string; port: number; key: string }

const CARDS: Record<string, Behaviour> = {
  pm_card_visa: 'ok',
  pm_card_chargeDeclined: 'declined',
  pm_card_visa_chargeDeclined: 'declined',
  pm_card_chargeDeclinedInsufficientFunds: 'insufficient funds',
  pm_card_visa_chargeDeclinedInsufficientFunds: 'insufficient funds',
  pm_card_authenticationRequired: 'authentication required',
  pm_lost_response: 'lost response',
  pm_slow: 'slow',
  pm_500_before: '500 before',
  pm_500_after: '500 after',
  pm_fails_twice: 'fails twice',
  pm_processing: 'processing',
  pm_refund_refused: 'ok'
}
const SLOW_MS = 5000
const PARAMETERS = new Set([
  'amount',
  'currency',
  'allowed_payment_method_types',
  'metadata',
  'payment_method',
  'confirm',
  'error_on_requires_action',
  'expand'
])

const intents = new Map<string, Intent>()
const charges = new Map<string, Charge>()
/** Idempotency key -> what it was used for; without a reply while that is being done. */
const keys = new Map<string, { request: string; reply?: Reply }>()
/** How often a payment method's trouble has struck under a key. */
const struck = new Map<string, number>()
/** Replies that nobody is to hear. */
const lost = new Set<Reply>()
const received: ReceivedRequest[] = []
let script: Behaviour[] = []
let outage = false
let indexing = true
let elsewhere: StandInControl['elsewhere']
let serial = 0

const server = createServer((request, response) => void serve(request, response))
server.listen(port, '127.0.0.1', () => process.send!((server.address() as AddressInfo).port))
process.once('disconnect', () => process.exit(0))

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url!, 'http://stripe')
  const text = await textOf(request)
  if (url.pathname === '/stand-in') return send(response, { status: 200, body: control(text) })
  const idempotencyKey = request.headers['idempotency-key'] as string | undefined
  received.push({ method: request.method!, path: url.pathname, idempotencyKey })
  if (outage) return void response.destroy()
  try {
    if (request.headers.authorization !== `Bearer ${secretKey}`)
      throw new ApiError(401, {
        type: 'invalid_request_error',
        message: `Invalid API Key provided: ${request.headers.authorization?.slice(7, 15)}****`
      })
    const form = parseForm(request.method === 'POST' ? new URLSearchParams(text) : url.searchParams)
    if (request.method === 'POST' && idempotencyKey !== undefined)
      await once(idempotencyKey, `${url.pathname}?${text}`, response, () =>
        answer(request.method!, url.pathname, form, idempotencyKey)
      )
    else send(response, await answer(request.method!, url.pathname, form, ''))
  } catch (error) {
    if (error instanceof Cut) response.destroy()
    else if (error instanceof ApiError)
      send(response, { status: error.status, body: { error: error.error } })
    else throw error
  }
}

/**
 * Stripe keeps the first reply under a key, a 500 too, and gives it again; a request that it did
 * not begin leaves no trace.
 */
async function once(
  key: string,
  request: string,
  response: ServerResponse,
  execute: () => Promise<Reply>
): Promise<void> {
  const known = keys.get(key)
  if (known && known.request !== request)
    throw new ApiError(400, {
      type: 'idempotency_error',
      message: `Keys for idempotent requests can only be used with the same parameters they were first used with. Try using a key other than '${key}' if you meant to execute a different request.`
    })
  if (known && !known.reply)
    throw new ApiError(409, {
      type: 'idempotency_error',
      code: 'idempotency_key_in_use',
      message: `There is currently another in-progress request using this idempotent key: ${key}`
    })
  if (known?.reply) return send(response, known.reply, { 'idempotent-replayed': 'true' })
  const use: { request: string; reply?: Reply } = { request }
  keys.set(key, use)
  try {
    use.reply = await execute()
    if (lost.delete(use.reply)) throw new Cut()
    send(response, use.reply)
  } catch (error) {
    if (error instanceof ApiError) keys.delete(key)
    throw error
  }
}

async function answer(
  method: string,
  path: string,
  form: Record<string, unknown>,
  key: string
): Promise<Reply> {
  const [, version, resource, id, action] = path.split('/')
  const route = `${method} /${version}/${resource}${id === undefined ? '' : id === 'search' ? '/search' : '/:id'}${action ? `/${action}` : ''}`
  switch (route) {
    case 'POST /v1/payment_intents':
      return createIntent(form, key)
    case 'GET /v1/payment_intents/search': {
      const orderId = /^metadata\['order_id'\]:'([^']+)'$/.exec(String(form['query']))?.[1]
      if (orderId === undefined)
        throw new ApiError(400, {
          type: 'invalid_request_error',
          message: `We were unable to parse your search query: ${String(form['query'])}`
        })
      return {
        status: 200,
        body: {
          object: 'search_result',
          has_more: false,
          data: indexing
            ? [...intents.values()].filter(({ metadata }) => metadata['order_id'] === orderId)
            : []
        }
      }
    }
    case 'GET /v1/payment_intents/:id': {
      const intent = intentOf(id!)
      const expand = (form['expand'] as string[] | undefined)?.[0] ?? ''
      const charge = charges.get(intent.latest_charge ?? '')
      // Refunds are only told when they are asked for.
      const expanded = charge && {
        ...charge,
        refunds:
          expand === 'latest_charge.refunds'
            ? { object: 'list', has_more: false, data: charge.refunds }
            : undefined
      }
      return {
        status: 200,
        body: {
          ...intent,
          latest_charge: expand.startsWith('latest_charge')
            ? (expanded ?? null)
            : intent.latest_charge
        }
      }
    }
    case 'POST /v1/payment_intents/:id/cancel': {
      const intent = intentOf(id!)
      if (
        intent.status === 'succeeded' ||
        intent.status === 'canceled' ||
        intent.status === 'processing'
      )
        throw unexpectedState(
          `You cannot cancel this PaymentIntent because it has a status of ${intent.status}.`,
          intent
        )
      intent.status = 'canceled'
      return { status: 200, body: { ...intent } }
    }
    case 'POST /v1/refunds':
      return refund(form)
    default:
      throw new ApiError(404, {
        type: 'invalid_request_error',
        message: `Unrecognized request URL (${route})`
      })
  }
}

async function createIntent(form: Record<string, unknown>, key: string): Promise<Reply> {
  const unknown = Object.keys(form).find((name) => !PARAMETERS.has(name))
  if (unknown)
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'parameter_unknown',
      param: unknown,
      message: `Received unknown parameter: ${unknown}`
    })
  const amount = Number(form['amount'])
  if (!Number.isInteger(amount))
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'parameter_invalid_integer',
      param: 'amount',
      message: `Invalid integer: ${String(form['amount'])}`
    })
  if (amount < 50)
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'amount_too_small',
      param: 'amount',
      message: 'Amount must convert to at least 50 cents.'
    })
  if (amount > 99_999_999)
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'amount_too_large',
      param: 'amount',
      message: 'Amount must be no more than 999,999.99'
    })
  const method = form['payment_method'] as string | undefined
  if (method !== undefined && !CARDS[method])
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'resource_missing',
      param: 'payment_method',
      message: `No such PaymentMethod: '${method}'`
    })
  const confirmed = form['confirm'] === 'true'
  const behaviour =
    (confirmed ? script.shift() : undefined) ?? (confirmed && method ? CARDS[method]! : 'ok')
  if (typeof behaviour === 'object') throw new ApiError(behaviour.status, behaviour.error)
  if (behaviour === 'fails twice' && strike(key) <= 2)
    throw new ApiError(503, { type: 'api_error', message: 'The service is overloaded' })
  if (behaviour === 'rate limited')
    throw new ApiError(429, {
      type: 'invalid_request_error',
      code: 'rate_limit',
      message: 'Request rate limit exceeded.'
    })
  if (behaviour === '500 before')
    return {
      status: 500,
      body: { error: { type: 'api_error', message: 'An unknown error occurred' } }
    }
  if (behaviour === 'slow') await delay(SLOW_MS)
  const intent: Intent = {
    id: `pi_${++serial}_${process.pid}`,
    object: 'payment_intent',
    amount,
    amount_received: 0,
    currency: String(form['currency']),
    metadata: (form['metadata'] ?? {}) as Record<string, string>,
    payment_method: method ?? null,
    status: method ? 'requires_confirmation' : 'requires_payment_method',
    last_payment_error: null,
    latest_charge: null,
    created: Math.floor(Date.now() / 1000)
  }
  intents.set(intent.id, intent)
  if (!confirmed) return { status: 200, body: { ...intent } }
  const declined = declineOf(behaviour)
  if (declined) {
    intent.status = 'requires_payment_method'
    intent.last_payment_error = declined
    return { status: 402, body: { error: { ...declined, payment_intent: { ...intent } } } }
  }
  if (behaviour === 'processing') {
    intent.status = 'processing'
    return { status: 200, body: { ...intent } }
  }
  take(intent)
  if (behaviour === '500 after')
    return {
      status: 500,
      body: { error: { type: 'api_error', message: 'An unknown error occurred' } }
    }
  const reply = { status: 200, body: { ...intent } }
  if (behaviour === 'lost response') lost.add(reply)
  return reply
}

function declineOf(behaviour: Behaviour): Record<string, unknown> | undefined {
  const cardError = { type: 'card_error', message: 'Your card was declined.' }
  if (behaviour === 'declined')
    return { ...cardError, code: 'card_declined', decline_code: 'generic_decline' }
  if (behaviour === 'insufficient funds')
    return {
      ...cardError,
      code: 'card_declined',
      decline_code: 'insufficient_funds',
      message: 'Your card has insufficient funds.'
    }
  if (behaviour === 'authentication required')
    return {
      ...cardError,
      code: 'authentication_required',
      decline_code: 'authentication_required'
    }
  return undefined
}

function take(intent: Intent): void {
  const charge: Charge = {
    id: `ch_${++serial}_${process.pid}`,
    object: 'charge',
    amount: intent.amount,
    amount_refunded: 0,
    refunded: false,
    refunds: []
  }
  record({
    kind: 'charge',
    orderId: intent.metadata['order_id'] ?? '',
    reference: intent.id,
    amount: intent.amount,
    currency: intent.currency,
    at: new Date().toISOString()
  })
  charges.set(charge.id, charge)
  intent.status = 'succeeded'
  intent.amount_received = intent.amount
  intent.latest_charge = charge.id
}

function refund(form: Record<string, unknown>): Reply {
  const intent = intentOf(String(form['payment_intent']))
  const charge = charges.get(intent.latest_charge ?? '')
  if (!charge)
    throw new ApiError(400, {
      type: 'invalid_request_error',
      message: `This PaymentIntent (${intent.id}) does not have a successful charge to refund.`
    })
  if (charge.refunded)
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'charge_already_refunded',
      message: `Charge ${charge.id} has already been refunded.`
    })
  if (intent.payment_method === 'pm_refund_refused')
    throw new ApiError(400, {
      type: 'invalid_request_error',
      code: 'charge_disputed',
      message: `Charge ${charge.id} has been charged back; cannot issue a refund.`
    })
  const behaviour = script.shift() ?? 'ok'
  if (typeof behaviour === 'object') throw new ApiError(behaviour.status, behaviour.error)
  if (behaviour === '500 before')
    return {
      status: 500,
      body: { error: { type: 'api_error', message: 'An unknown error occurred' } }
    }
  const status =
    behaviour === 'refund pending'
      ? 'pending'
      : behaviour === 'refund failed'
        ? 'failed'
        : 'succeeded'
  const made = give(intent, charge, charge.amount - charge.amount_refunded, status)
  if (behaviour === '500 after')
    return {
      status: 500,
      body: { error: { type: 'api_error', message: 'An unknown error occurred' } }
    }
  const reply = { status: 200, body: { ...made } }
  if (behaviour === 'lost response') lost.add(reply)
  return reply
}

/** What is pending counts as given back until it has failed. */
function give(intent: Intent, charge: Charge, amount: number, status: Refund['status']): Refund {
  const made: Refund = {
    id: `re_${++serial}_${process.pid}`,
    object: 'refund',
    amount,
    payment_intent: intent.id,
    status,
    ...(status === 'failed' && { failure_reason: 'expired_or_canceled_card' })
  }
  charge.refunds.push(made)
  if (status === 'failed') return made
  if (status === 'succeeded') recordRefund(intent, amount)
  charge.amount_refunded += amount
  charge.refunded = charge.amount_refunded === charge.amount
  return made
}

function recordRefund(intent: Intent, amount: number): void {
  record({
    kind: 'refund',
    orderId: intent.metadata['order_id'] ?? '',
    reference: intent.id,
    amount,
    currency: intent.currency,
    at: new Date().toISOString()
  })
}

function settleRefunds(status: 'succeeded' | 'failed'): void {
  for (const charge of charges.values()) {
    for (const open of charge.refunds.filter((one) => one.status === 'pending')) {
      open.status = status
      if (status === 'succeeded') recordRefund(intents.get(open.payment_intent)!, open.amount)
      else {
        open.failure_reason = 'expired_or_canceled_card'
        charge.amount_refunded -= open.amount
        charge.refunded = false
      }
    }
  }
}

function refundByHand(most: number): void {
  for (const intent of intents.values()) {
    const charge = charges.get(intent.latest_charge ?? '')
    const left = charge ? charge.amount - charge.amount_refunded : 0
    if (charge && left > 0) give(intent, charge, Math.min(most, left), 'succeeded')
  }
}

function intentOf(id: string): Intent {
  const intent = elsewhere ? undefined : intents.get(id)
  if (!intent && elsewhere === 'mode')
    throw new ApiError(404, {
      type: 'invalid_request_error',
      code: 'resource_missing',
      param: 'intent',
      message: `No such payment_intent: '${id}'; a similar object exists in test mode, but a live mode key was used to make this request.`
    })
  if (!intent)
    throw new ApiError(404, {
      type: 'invalid_request_error',
      code: 'resource_missing',
      param: 'intent',
      message: `No such payment_intent: '${id}'`
    })
  return intent
}

function unexpectedState(text: string, intent: Intent): ApiError {
  return new ApiError(400, {
    type: 'invalid_request_error',
    code: 'payment_intent_unexpected_state',
    message: text,
    payment_intent: { ...intent }
  })
}

function strike(key: string): number {
  const times = (struck.get(key) ?? 0) + 1
  struck.set(key, times)
  return times
}

/** Written before anybody is told. */
function record(entry: LedgerEntry): void {
  appendFileSync(ledger, `${JSON.stringify(entry)}\n`)
}

function control(text: string): unknown {
  const told = JSON.parse(text) as StandInControl
  if (told.outage !== undefined) outage = told.outage
  if (told.indexing !== undefined) indexing = told.indexing
  if (told.script) script = told.script
  if (told.forgetKeys) keys.clear()
  if (told.settleRefunds) settleRefunds(told.settleRefunds)
  if (told.refundByHand !== undefined) refundByHand(told.refundByHand)
  if ('elsewhere' in told) elsewhere = told.elsewhere
  if (told.settleProcessing)
    for (const intent of intents.values()) if (intent.status === 'processing') take(intent)
  return { received }
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const chunk of request) text += String(chunk)
  return text
}

/** `a[b]=c` and `a[0]=c`, one level deep. */
function parseForm(form: URLSearchParams): Record<string, unknown> {
  const parsed: Record<string, unknown> = {}
  for (const [name, value] of form) {
    const [, outer, inner] = /^([^[]+)\[([^\]]*)\]$/.exec(name) ?? []
    if (outer === undefined) parsed[name] = value
    else if (/^\d*$/.test(inner!))
      parsed[outer] = [...((parsed[outer] as string[] | undefined) ?? []), value]
    else parsed[outer] = { ...(parsed[outer] as object | undefined), [inner!]: value }
  }
  return parsed
}

function send(
  response: ServerResponse,
  { status, body }: Reply,
  headers: Record<string, string> = {}
): void {
  if (response.destroyed) return
  response.writeHead(status, {
    'content-type': 'application/json',
    'request-id': `req_${++serial}`,
    ...headers
  })
  response.end(JSON.stringify(body))
}

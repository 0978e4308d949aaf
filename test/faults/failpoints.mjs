// Preloaded into the product's process: ends it by SIGKILL, or stops it, at a named point, and
// brings messages late or twice. It wraps what the product is made of (transports, transactions,
// the database client) and the product knows nothing of it. Plain Node, like the product it runs
// in. FAILPOINT=commit-ack:5        the fifth time FAILPOINT=order-commit:1:STOP SIGSTOP instead of
// SIGKILL LATE=order:StockReleasedEvent:StockReservedEvent,PaymentCompletedEvent
//                                 brings these to the endpoint only when it has handled the first for the same order
// TWICE=1                       hands every message out twice
import pg from 'pg'

// Of the build that is run.
const { MemoryTransport } = await import(`${process.env.LIBRARY}/messaging/transport/memory.js`)
const { RabbitTransport } = await import(`${process.env.LIBRARY}/messaging/rabbitmq/transport.js`)
const { OpenTransaction } = await import(
  `${process.env.LIBRARY}/messaging/postgres/open-transaction.js`
)

/**
 * What is on its way gets there, ms, and what should not be is: a relay tells its table after 200
 * ms what it has sent. Nothing more is done meanwhile.
 */
const UNDER_WAY_MS = 400

const [point, nth = '1', action = 'KILL'] = (process.env.FAILPOINT ?? '').split(':')
const [lateAt, first, lateTypes = ''] = (process.env.LATE ?? '').split(':')
// Whoever has started this process may be killed too: it must not stay behind.
const parent = process.ppid
setInterval(() => {
  if (process.ppid !== parent) process.kill(process.pid, 'SIGKILL')
}, 1000).unref()

const never = new Promise(() => {})
let passed = 0
/** Nothing that was published is confirmed any more. */
let deaf = false

/** True at the point that was named, the nth time it's passed. */
function reached(name) {
  return name === point && ++passed === Number(nth)
}

function die() {
  process.kill(process.pid, `SIG${action}`)
}

/** What was sent arrives; the caller goes no further. */
function dieSoon() {
  setTimeout(die, UNDER_WAY_MS)
  return never
}

/** What was sent arrives first. After SIGSTOP it goes on with what it was about to do. */
async function dieBefore(work) {
  await new Promise((resolve) => setTimeout(resolve, UNDER_WAY_MS))
  die()
  return work()
}

for (const { prototype } of [MemoryTransport, RabbitTransport]) {
  const { publish, subscribe } = prototype

  prototype.publish = async function (message) {
    const outcome = publish.call(this, message)
    if (reached('publish-confirm')) {
      deaf = true
      return dieSoon()
    }
    await outcome
    if (deaf) return never
    if (reached('confirm-delete')) die()
    return outcome
  }

  prototype.subscribe = function (endpoint, receive) {
    return subscribe.call(this, endpoint, (delivery) => {
      const observed = {
        ...delivery,
        ack() {
          if (reached('commit-ack')) die()
          delivery.ack()
          if (endpoint === lateAt) bringLate(delivery)
        }
      }
      if (endpoint === lateAt && isTooEarly(delivery))
        held.push({ order: orderOf(delivery), deliver: () => receive(observed) })
      else receive(observed)
      if (process.env.TWICE) receive({ ...delivery, ack() {}, requeue() {} })
    })
  }
}

/** Messages that wait for another of their order. */
let held = []
/** Orders for which that other message has been handled. */
const handled = new Set()

function isTooEarly(delivery) {
  return (
    lateTypes.split(',').some((type) => isOf(type, delivery)) && !handled.has(orderOf(delivery))
  )
}

function bringLate(delivery) {
  if (!isOf(first, delivery)) return
  const order = orderOf(delivery)
  handled.add(order)
  const due = held.filter((one) => one.order === order)
  held = held.filter((one) => one.order !== order)
  for (const { deliver } of due) deliver()
}

function isOf(type, { payload }) {
  return payload.toString().includes(`:${type}"`)
}

function orderOf({ payload }) {
  return JSON.parse(payload.toString()).message.orderId
}

/** What transactions have sent. */
const sent = new WeakMap()
/** Transactions in which nothing more is sent. */
const dying = new WeakSet()
const { send, commit } = OpenTransaction.prototype

OpenTransaction.prototype.send = function (statement, ...rest) {
  if (dying.has(this)) return never
  const before = sent.get(this) ?? []
  sent.set(this, before)
  if (/update payments set status = outcome/.test(statement.text) && reached('charge-record')) die()
  // Its inbox row has been written, the first of its effects is sent, and nothing more will be.
  if (
    /insert into inbox/.test(before.at(-1) ?? '') &&
    statement.text !== 'commit' &&
    reached('mid-batch')
  ) {
    send.call(this, statement, ...rest)
    dying.add(this)
    return dieSoon()
  }
  before.push(statement.text)
  return send.call(this, statement, ...rest)
}

OpenTransaction.prototype.commit = async function () {
  if (dying.has(this)) return never
  const holds = (pattern) => sent.get(this)?.some((text) => pattern.test(text)) ?? false
  const of = holds(/insert into orders/)
    ? 'order'
    : holds(/next_timer_at <= now\(\)/) && holds(/update saga set state/)
      ? 'timer'
      : 'other'
  if (reached(`${of}-commit`)) {
    // COMMIT would be in one message with what was sent in this turn.
    await new Promise((resolve) => setImmediate(resolve))
    return dieBefore(() => commit.call(this))
  }
  const committed = await commit.call(this)
  if (reached(`${of}-answer`)) die()
  return committed
}

const { query } = pg.Client.prototype

pg.Client.prototype.query = function (...args) {
  const text = typeof args[0] === 'string' ? args[0] : (args[0]?.text ?? '')
  if (/^insert into .*\bsagabox_migrations\b/.test(text) && reached('migration')) die()
  return query.apply(this, args)
}

import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import pg, { type ClientBase } from 'pg'
import { encoded, isPrepared, OneSync, type Bound } from './one-sync.ts'
import { withoutShell } from './without-shell.ts'

const STATEMENT = { name: 'probe', text: 'select $1::integer as n' }
const SYNC_BYTES = 5

/**
 * Plays a server to a client of pg's, and looks whether two statements under one Sync are written
 * as pg itself writes two, and each gets its own answer. The first takes 5 ms, and no connection.
 * @throws what is not as expected
 */
export function probeOneSync(): void {
  const server = new PlayedServer()
  const { client } = server
  const bound: Bound = { statement: STATEMENT, values: [encoded([7])] }

  const ask = () => client.query({ ...STATEMENT, values: bound.values }, () => {})
  server.writtenBy(ask)
  server.answer(PARSED, ...answerOf('1'), READY)
  assert.ok(isPrepared(client, STATEMENT), 'a prepared statement is not known to be prepared')

  const one = server.writtenBy(ask)
  server.answer(...answerOf('2'), READY)
  const [statement, sync] = [one.subarray(0, -SYNC_BYTES), one.subarray(-SYNC_BYTES)]
  const expected = Buffer.concat([statement, statement, sync])

  const good = server.send([bound, bound], expected)
  server.answer(...answerOf('3'), ...answerOf('4'), READY)
  assert.deepEqual(
    [good.outcome, good.query.results.map(({ rows, command }) => [rows, command])],
    [
      'done',
      [
        [[{ n: 3 }], 'SELECT'],
        [[{ n: 4 }], 'SELECT']
      ]
    ],
    'two statements under one Sync do not get an answer each'
  )

  const bad = server.send([bound, bound], expected)
  server.answer(...answerOf('5'), FAILED, READY)
  assert.deepEqual(
    [bad.outcome, bad.query.results.map(({ rows }) => rows as unknown)],
    ['22000', [[{ n: 5 }]]],
    'a statement that fails is not told from the one before it'
  )

  const after = server.send([bound, bound], expected)
  server.answer(...answerOf('6'), ...answerOf('7'), READY)
  assert.equal(after.outcome, 'done', 'after a failure nothing is answered')
}

/** The server's end of one connection. Everything happens in one turn of the event loop. */
class PlayedServer extends EventEmitter {
  readonly writable = true
  readonly client: ClientBase
  #written: Buffer[] = []

  constructor() {
    super()
    const nowhere = { host: 'nowhere', port: 1, user: 'u', database: 'd', password: 'p' }
    const plain = { ssl: false, sslnegotiation: 'postgres', pipeline: true }
    const settings = { ...nowhere, ...plain, stream: () => this }
    const client = new pg.Client(settings as unknown as pg.ClientConfig)
    withoutShell(client)
    this.client = client
    client.on('error', () => {})
    client.connect(() => {})
    this.emit('connect')
    this.answer(message('R', uint(4, 0)), READY)
  }

  writtenBy(work: () => void): Buffer {
    this.#written = []
    work()
    return Buffer.concat(this.#written)
  }

  send(statements: readonly Bound[], expected: Buffer): { query: OneSync; outcome: unknown } {
    const sent = { outcome: undefined as unknown, query: undefined as unknown as OneSync }
    sent.query = new OneSync(statements, (error) => {
      sent.outcome = error ? (error as pg.DatabaseError).code : 'done'
    })
    const written = this.writtenBy(() => void this.client.query(sent.query))
    assert.ok(written.equals(expected), 'two statements are not written as pg writes two')
    return sent
  }

  answer(...messages: Buffer[]): void {
    this.emit('data', Buffer.concat(messages))
  }

  // What pg asks of a socket.
  write(bytes: Buffer): boolean {
    this.#written.push(Buffer.from(bytes))
    return true
  }
  connect(): void {}
  setNoDelay(): void {}
  cork(): void {}
  uncork(): void {}
  end(): void {}
  destroy(): void {}
}

// Messages of PostgreSQL's protocol.
const PARSED = message('1')
const BOUND = message('2')
const READY = message('Z', Buffer.from('I'))
const FAILED = message('E', Buffer.from('SERROR\0C22000\0Mno\0\0'))
/** One column, `n`, an integer. */
const COLUMNS = message(
  'T',
  Buffer.concat([
    uint(2, 1),
    Buffer.from('n\0'),
    uint(4, 0),
    uint(2, 0),
    uint(4, 23),
    uint(2, 4),
    uint(4, 0),
    uint(2, 0)
  ])
)

function answerOf(n: string): Buffer[] {
  const row = Buffer.concat([uint(2, 1), uint(4, n.length), Buffer.from(n)])
  return [BOUND, COLUMNS, message('D', row), message('C', Buffer.from('SELECT 1\0'))]
}

function message(type: string, payload: Buffer = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.from(type), uint(4, payload.length + 4), payload])
}

function uint(bytes: number, value: number): Buffer {
  const buffer = Buffer.alloc(bytes)
  buffer.writeUIntBE(value, 0, bytes)
  return buffer
}

import { once } from 'node:events'
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import pg from 'pg'
import type { Scope } from './program.ts'

export interface PoolerOptions {
  /** Whether a client keeps its session, or gets one for each transaction. */
  mode: 'session' | 'transaction'
  /** What becomes of the session settings that come with a connection. */
  options: 'dropped' | 'refused'
}

/** A connection pooler between a client and its server, as far as the two can tell. */
export class Pooler {
  /** The database's URL with the pooler's address. */
  readonly url: string
  readonly #databaseUrl: string
  readonly #options: PoolerOptions
  readonly #clients = new Set<Socket>()
  readonly #all = new Set<pg.Client>()
  /** Sessions that nobody uses, the latest last. */
  readonly #free: pg.Client[] = []
  readonly #server: Server

  private constructor(server: Server, databaseUrl: string, options: PoolerOptions) {
    this.#server = server
    this.#databaseUrl = databaseUrl
    this.#options = options
    const here = new URL(databaseUrl)
    here.hostname = '127.0.0.1'
    here.port = String((server.address() as AddressInfo).port)
    this.url = here.href
    server.on('connection', (client) => this.#accept(client))
  }

  static async open(scope: Scope, databaseUrl: string, options: PoolerOptions): Promise<Pooler> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const pooler = new Pooler(server, databaseUrl, options)
    scope.teardown(() => pooler.#close())
    return pooler
  }

  /** Sessions that were opened to the server. */
  get sessions(): number {
    return this.#all.size
  }

  #accept(socket: Socket): void {
    this.#clients.add(socket)
    let rest: Buffer = Buffer.alloc(0)
    let known = false
    let session: Promise<pg.Client> | undefined
    /** Requests whose ReadyForQuery has not come. */
    let unanswered = 0
    const leave = () => {
      void session?.then((client) => {
        if (this.#options.mode === 'transaction') this.#free.push(client)
        // As DISCARD ALL does: nothing is left of what was done in it.
        else client.connection.stream.destroy()
      })
      session = undefined
    }
    const forward = (messages: Buffer) => {
      session ??= this.#take((type, message) => {
        socket.write(message)
        if (type !== 'Z') return
        unanswered--
        if (
          this.#options.mode === 'transaction' &&
          unanswered === 0 &&
          message.at(-1) === 'I'.charCodeAt(0)
        )
          leave()
      })
      void session.then((client) => client.connection.stream.write(messages))
    }
    socket
      .on('error', () => {})
      .on('close', () => {
        this.#clients.delete(socket)
        leave()
      })
    socket.on('data', (data) => {
      rest = Buffer.concat([rest, data])
      if (!known) {
        if (rest.length < 4 || rest.length < rest.readInt32BE(0)) return
        const hello = rest.subarray(0, rest.readInt32BE(0))
        rest = rest.subarray(hello.length)
        if (this.#options.options === 'refused' && hello.includes('\0options\0'))
          return void socket.end(refusal('unsupported startup parameter: options'))
        known = true
        socket.write(welcome())
      }
      const { messages, left } = split(rest)
      rest = left
      for (const message of messages) {
        const type = String.fromCharCode(message[0]!)
        if (type === 'X') return void socket.end()
        if (type === 'Q' || type === 'S') unanswered++
        forward(message)
      }
    })
  }

  async #take(answered: (type: string, message: Buffer) => void): Promise<pg.Client> {
    const client = this.#free.pop() ?? (await this.#login())
    let rest: Buffer = Buffer.alloc(0)
    client.connection.stream.removeAllListeners('data')
    client.connection.stream.on('data', (data: Buffer) => {
      const { messages, left } = split(Buffer.concat([rest, data]))
      rest = left
      for (const message of messages) answered(String.fromCharCode(message[0]!), message)
    })
    return client
  }

  async #login(): Promise<pg.Client> {
    const client = new pg.Client({ connectionString: this.#databaseUrl })
    client.on('error', () => {})
    await client.connect()
    this.#all.add(client)
    return client
  }

  #close(): void {
    this.#server.close()
    for (const socket of this.#clients) socket.destroy()
    for (const client of this.#all) client.connection.stream.destroy()
  }
}

function split(data: Buffer): { messages: Buffer[]; left: Buffer } {
  const messages: Buffer[] = []
  let left = data
  while (left.length >= 5 && left.length > left.readInt32BE(1)) {
    const size = left.readInt32BE(1) + 1
    messages.push(left.subarray(0, size))
    left = left.subarray(size)
  }
  return { messages, left }
}

function framed(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(type)
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

function welcome(): Buffer {
  const key = Buffer.alloc(8)
  key.writeInt32BE(1_999_999_999)
  return Buffer.concat([
    framed('R', Buffer.alloc(4)),
    framed('K', key),
    framed('Z', Buffer.from('I'))
  ])
}

function refusal(text: string): Buffer {
  return framed('E', Buffer.from(`SFATAL\0VFATAL\0C08P01\0M${text}\0\0`))
}

import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Scope } from '../support/program.ts'

/** How long a peer waits for a lost answer before its connection is reset, ms. */
const LOST_ANSWER_MS = 300

/** When a server closes a connection whose peer has fallen silent, ms. */
const KEEPALIVE_MS = 5000

/** One connection through the proxy. */
interface Line {
  client: Socket
  upstream: Socket
  /** Answers are thrown away. */
  deaf: boolean
}

/** A network between a service and its server that can be told to misbehave. */
export class Proxy {
  /** The server's URL with the proxy's address. */
  readonly url: string
  readonly #server: Server
  #target: URL
  readonly #lines = new Set<Line>()
  readonly #abandoned = new Set<Line>()
  #stalled = false
  #deaf = false
  #delay: () => number = () => 0
  /** The last packet under way to each socket. */
  readonly #last = new WeakMap<Socket, Promise<void>>()
  #swallow: { after: string; times: number } | undefined

  private constructor(server: Server, target: URL) {
    this.#server = server
    this.#target = target
    const here = new URL(target)
    here.hostname = '127.0.0.1'
    here.port = String((server.address() as AddressInfo).port)
    this.url = here.href
    server.on('connection', (client) => this.#accept(client))
  }

  /** @param url of the server behind it, with a port */
  static async open(scope: Scope, url: string): Promise<Proxy> {
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const proxy = new Proxy(server, new URL(url))
    scope.teardown(() => proxy.#close())
    return proxy
  }

  /**
   * A black hole: nothing arrives any more, and nobody is told. What was sent arrives late, or,
   * after cut(), never.
   */
  stall(): void {
    this.#stalled = true
    for (const { client, upstream } of this.#lines)
      for (const socket of [client, upstream]) socket.pause()
  }

  /**
   * The connections of now fall silent, for ever; new ones work. The server's keepalive notices,
   * the service's is too slow.
   */
  async abandon(): Promise<void> {
    const lines = [...this.#lines]
    this.stall()
    this.#stalled = false
    this.#lines.clear()
    for (const line of lines) this.#abandoned.add(line)
    await sleep(KEEPALIVE_MS)
    for (const { upstream } of lines) upstream.destroy()
  }

  /** Requests arrive, and their answers are lost. */
  loseAnswers(): void {
    this.#deaf = true
  }

  /** Loses the answer to a request that holds a text, so many times, and with it the connection. */
  loseAnswersTo(text: string, times: number): void {
    this.#swallow = { after: text, times }
  }

  /** How many more answers loseAnswersTo will lose. */
  get answersToLose(): number {
    return this.#swallow?.times ?? 0
  }

  /** @param ms how long each packet takes */
  slow(ms: () => number): void {
    this.#delay = ms
  }

  /** Resets every connection; returns how many there were. */
  cut(): number {
    const open = this.#lines.size
    for (const { client, upstream } of this.#lines)
      for (const socket of [client, upstream]) socket.resetAndDestroy()
    return open
  }

  /** New connections lead to another server; those of now stay where they are. */
  lead(url: string): void {
    this.#target = new URL(url)
  }

  /** Works from now on. A connection whose answers were lost has a gap, and is reset. */
  heal(): void {
    if (this.#deaf) this.cut()
    this.#stalled = false
    this.#deaf = false
    this.#swallow = undefined
    this.#delay = () => 0
    for (const { client, upstream } of this.#lines)
      for (const socket of [client, upstream]) socket.resume()
  }

  #accept(client: Socket): void {
    const upstream = connect(Number(this.#target.port), this.#target.hostname)
    const line: Line = { client, upstream, deaf: false }
    this.#lines.add(line)
    for (const [from, to] of [
      [client, upstream],
      [upstream, client]
    ] as const) {
      from.setNoDelay(true)
      from
        .on('error', () => {})
        .on('close', () => {
          this.#lines.delete(line)
          if (!this.#abandoned.has(line)) to.destroy()
        })
      from.on('data', (data) => this.#carry(line, from, to, data))
      // Also what has been delayed arrives before the end.
      from.on('end', () => this.#later(to, () => to.end()))
      if (this.#stalled) from.pause()
      else from.resume()
    }
  }

  #carry(line: Line, from: Socket, to: Socket, data: Buffer): void {
    if (from === line.upstream && (this.#deaf || line.deaf)) return
    if (
      from === line.client &&
      this.#swallow &&
      this.#swallow.times > 0 &&
      data.includes(this.#swallow.after)
    ) {
      this.#swallow.times--
      line.deaf = true
      setTimeout(() => {
        for (const socket of [line.client, line.upstream]) socket.resetAndDestroy()
      }, LOST_ANSWER_MS)
    }
    this.#later(to, () => to.write(data))
  }

  /** After what is under way to the same socket: TCP may be slow, and never changes the order. */
  #later(to: Socket, action: () => void): void {
    const ms = this.#delay()
    const before = this.#last.get(to)
    if (ms === 0 && !before) return action()
    const arrived = Promise.all([before, sleep(ms)]).then(() => {
      if (this.#last.get(to) === arrived) this.#last.delete(to)
      action()
    })
    this.#last.set(to, arrived)
  }

  #close(): void {
    this.#server.close()
    this.cut()
    for (const { client, upstream } of this.#abandoned)
      for (const socket of [client, upstream]) socket.destroy()
  }
}

import { isIP } from 'node:net'

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[?::1\]?|\[?::ffff:127(\.\d{1,3}){3}\]?)$/i

/** Whether an address to listen on can be reached from this machine alone. */
export function isLoopback(host: string): boolean {
  return LOOPBACK.test(host)
}

/** The names by which a server may be asked for, so that no page of another name can be it. */
export class Hosts {
  readonly #own: string | undefined

  /** @param publicUrl how the outside sees the server */
  constructor(publicUrl?: string) {
    this.#own = publicUrl === undefined ? undefined : new URL(publicUrl).hostname.toLowerCase()
  }

  /**
   * Whether a Host header names this server. A page can point its own name at this server's address
   * (DNS rebinding), but neither an address nor a name without a dot, such as those of Compose.
   */
  isExpected(header: string): boolean {
    const host = hostnameOf(header)
    if (host === undefined) return false
    return host === this.#own || !host.includes('.') || isIP(host.replace(/^\[|\]$/g, '')) !== 0
  }

  /** What is said of a host that is not. */
  get expected(): string {
    const names = ['localhost', 'an IP address', 'a name without a dot']
    return this.#own === undefined
      ? `${names.join(', ')}; or PUBLIC_URL, set to how clients see this server`
      : `${this.#own} (of PUBLIC_URL), ${names.join(', ')}`
  }
}

/** `shop.example:8080` -> `shop.example`; undefined for what is no host. */
export function hostnameOf(header: string): string | undefined {
  if (!/^[A-Za-z0-9.\-_]+(:\d{1,5})?$|^\[[0-9a-fA-F:.]+\](:\d{1,5})?$/.test(header))
    return undefined
  return header.replace(/:\d{1,5}$/, '').toLowerCase()
}

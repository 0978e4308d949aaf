/** What a browser says of a request. */
export interface BrowserHeaders {
  readonly 'sec-fetch-site'?: string | string[] | undefined
  readonly origin?: string | undefined
  readonly host?: string | undefined
}

const SAFE = new Set(['GET', 'HEAD', 'OPTIONS'])

/**
 * Whether a request that may change something comes from a page that is not the server's own.
 * Browsers always say where it comes from; who says nothing is no browser, and acts by itself.
 * @param allowed origins besides its own, such as those of CORS
 */
export function isCrossSite(
  method: string,
  { 'sec-fetch-site': site, origin, host }: BrowserHeaders,
  allowed: readonly string[] = []
): boolean {
  if (SAFE.has(method)) return false
  if (origin !== undefined && allowed.includes(origin)) return false
  if (site !== undefined) return site !== 'same-origin' && site !== 'none'
  if (origin === undefined) return false
  try {
    // A proxy may speak plain HTTP with the server where clients speak HTTPS: the scheme tells nothing.
    return new URL(origin).host !== host
  } catch {
    return true // `null`, of a sandboxed frame or a file
  }
}

import { SagaboxError } from '../messaging/errors/sagabox-error.ts'

/** A list of services elsewhere that cannot be read. */
export class InvalidConsoleServices extends SagaboxError {
  override readonly name = 'InvalidConsoleServices'
  override readonly code = 'INVALID_CONSOLE_SERVICES'
}

/**
 * Reads where services run that a console looks after: `order=http://order:3000,stock=http://…`,
 * each with the path at which its operators' routes are.
 * @throws InvalidConsoleServices
 */
export function consoleServices(text: string): Record<string, string> {
  const found: Record<string, string> = {}
  for (const part of text.split(',')) {
    const [, name, url] = /^\s*([a-z][a-z0-9-]{0,40})=(\S+)\s*$/.exec(part) ?? []
    if (name === undefined || url === undefined)
      throw refused(`"${part.trim().slice(0, 100)}" is not a name and an address`)
    if (Object.hasOwn(found, name)) throw refused(`${name} is named twice`)
    found[name] = addressIn(name, url)
  }
  return found
}

/** Without a slash at its end. */
function addressIn(name: string, text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (!url || !/^https?:$/.test(url.protocol))
    throw refused(`the address of ${name} is no http:// or https:// URL`)
  // The text is not repeated: it would hold the password.
  if (url.username !== '' || url.password !== '')
    throw refused(`the address of ${name} holds a user or password, which it must not`)
  if (url.search !== '' || url.hash !== '') throw refused(`the address of ${name} has a ? or #`)
  return `${url.origin}${url.pathname.replace(/\/+$/, '')}`
}

function refused(found: string): InvalidConsoleServices {
  return new InvalidConsoleServices(
    `${found}; expected services and their addresses, such as order=http://order:3000,stock=http://stock:3000`
  )
}

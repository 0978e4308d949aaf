import Type from 'typebox'
import { NotDone, WrongUsage, type Call } from './command.ts'
import type { Server } from './server.ts'

export const SERVICE_OPTION = {
  service: { value: 'NAME', help: 'whose; needed where the server has several' }
}

const Definitions = Type.Object({
  services: Type.Record(Type.String(), Type.Unknown())
})

/** The service that is named, or all that run at the server. */
export async function servicesOf({ options }: Call, server: Server): Promise<string[]> {
  const named = options.text('service')
  if (named !== undefined) {
    if (/^[a-z][a-z0-9-]{0,40}$/.test(named)) return [named]
    throw new WrongUsage(`${named} is no service; expected a name like shipping`)
  }
  const { services } = await server.get('/health/ready', Definitions, {}, [503])
  const names = Object.keys(services)
  if (names.length > 0) return names
  throw new NotDone('The server has no services')
}

/** @throws WrongUsage when the server has several and none is named */
export async function serviceOf(call: Call, server: Server): Promise<string> {
  const names = await servicesOf(call, server)
  if (names.length === 1) return names[0]!
  throw new WrongUsage(`whose? Expected --service ${names.join(' or ')}`)
}

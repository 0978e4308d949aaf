import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { Access } from '../../packages/sagabox/src/access/access.ts'
import { addKey, newKey } from '../../packages/sagabox/src/access/key-file.ts'
import { Roles } from '../../packages/sagabox/src/access/roles.ts'
import { roles as shopRoles } from '../../src/roles.ts'
import { keptLog } from './kept-log.ts'
import { startSystem, type TestSystemOptions } from './system.ts'

export const roles = new Roles(shopRoles)
export const PEOPLE = {
  ada: 'customer',
  bob: 'customer',
  carl: 'clerk',
  vera: 'viewer',
  otto: 'operator',
  anna: 'admin',
  mona: 'monitor'
}
export type Person = keyof typeof PEOPLE

/** The shop, with a key for each of them. */
export async function guardedShop(t: Test, options: TestSystemOptions = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'sagabox-keys-'))
  t.teardown(() => rm(folder, { recursive: true }))
  const keysFile = join(folder, 'keys')
  const keys = {} as Record<Person, string>
  for (const [name, role] of Object.entries(PEOPLE)) {
    const { key, sha256 } = newKey()
    await addKey(keysFile, roles, { name, role, sha256 })
    keys[name as Person] = key
  }
  const access = await Access.open({ keysFile, roles: shopRoles }, ['127.0.0.1'], keptLog())
  const { system, api, databaseUrl } = await startSystem(t, 'memory', { ...options, access })
  const ask = (who: Person | undefined, method: string, path: string, body?: unknown, more = {}) =>
    api.call(method, path, body, { ...(who && { authorization: `Bearer ${keys[who]}` }), ...more })
  return { system, api, ask, keys, databaseUrl }
}

export interface Route {
  method: string
  path: string
  permission: string
  /** Its path with `{parameters}`. */
  template: string
  isAudited: boolean
}

/** Every route that is documented, with made-up ids. */
export function routesOf({
  paths
}: {
  paths: Record<string, Record<string, Record<string, string>>>
}): Route[] {
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path: path.replaceAll(/\{(\w+)\}/g, (_, name) =>
        name === 'id' ? '1' : name === 'productId' ? 'none' : '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
      ),
      permission: operation['x-permission']!,
      template: path,
      isAudited: method !== 'get' && operation['x-audited'] === undefined
    }))
  )
}

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { RoleTable, SagaDefinition, ServiceDefinition } from '../index.ts'
import { NotReachable, WrongUsage, type Call, type Option } from './command.ts'

/** Looked for where the command runs, in this order. */
const NAMES = ['ts', 'mts', 'js', 'mjs'].map((extension) => `sagabox.config.${extension}`)

export const APP_OPTION: Readonly<Record<string, Option>> = {
  app: { value: 'FILE', help: 'that exports services; sagabox.config.ts or .js when not given' }
}

/** What a module of the user's says about their services. */
export interface App {
  file: string
  /** Those of this process. */
  services: readonly ServiceDefinition[]
  /** All of the system: `system`, where the module exports it. */
  system: readonly ServiceDefinition[]
  /** Those of the services, and those that the module exports by themselves. */
  sagas: readonly SagaDefinition[]
  /** The application's own, where the module exports `roles`. */
  roles: RoleTable
  /** What it has started by itself. */
  running: Running | undefined
}

interface Running {
  url: string
  stop(): Promise<void>
}

/**
 * The user's module: `services` is an array of what defineService returned, exported by that name
 * or as (part of) the default export.
 * @param given a file, from the folder where the command runs
 * @throws WrongUsage when there is none, or it cannot be loaded
 */
export async function loadApp(given: string | undefined): Promise<App> {
  const file = appFile(given)
  const exported = await load(file)
  const values = Object.values(exported)
  const own = exported['default']
  const all = { ...(isRecord(own) ? own : {}), ...exported }
  const services = servicesIn(all['services'] ?? own)
  const system = servicesIn(all['system'])
  const sagas = [...services, ...system].flatMap((service) => service.sagas)
  return {
    file,
    services,
    system: system.length > 0 ? system : services,
    sagas: [...new Set([...values.filter(isSaga), ...sagas])],
    roles: isRoleTable(all['roles']) ? all['roles'] : {},
    running: values.find(isRunning)
  }
}

/** The same, and it must export services. */
export async function loadServices({ options }: Pick<Call, 'options'>): Promise<App> {
  const app = await loadApp(options.text('app'))
  if (app.services.length > 0) return app
  await app.running?.stop()
  throw new WrongUsage(
    `${app.file} exports no services; expected export const services = [defineService(…), …]`
  )
}

/** The module in the folder where the command runs, if there is one. */
export function foundApp(): string | undefined {
  const found = NAMES.find((name) => existsSync(name))
  return found && resolve(found)
}

/** @throws WrongUsage when there is none */
export function appFile(given: string | undefined): string {
  if (given === undefined) {
    const found = foundApp()
    if (found) return found
    throw new WrongUsage(
      `there is no ${NAMES.join(', ')} in ${process.cwd()}; expected one that exports services, or --app FILE`
    )
  }
  if (existsSync(given)) return resolve(given)
  throw new WrongUsage(
    `there is no file ${resolve(given)}; expected a module that exports services`
  )
}

async function load(file: string): Promise<Record<string, unknown>> {
  if (/^\.[mc]?ts$/.test(extname(file))) await readTypeScript(file)
  try {
    return (await import(pathToFileURL(file).href)) as Record<string, unknown>
  } catch (error) {
    throw new NotReachable(`${file} cannot be loaded: ${reasonOf(error)}`, { cause: error })
  }
}

/** By tsx, where it is installed; else by Node itself, where it can. */
async function readTypeScript(file: string): Promise<void> {
  const tsx = find('tsx', file)
  if (tsx !== undefined) await import(pathToFileURL(tsx).href)
  else if (!(process.features as { typescript?: unknown }).typescript)
    throw new WrongUsage(
      `${file} is TypeScript, which Node ${process.versions.node} does not read by itself: npm i -D tsx`
    )
}

function find(name: string, from: string): string | undefined {
  try {
    return createRequire(from).resolve(name)
  } catch {
    return undefined
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

function servicesIn(value: unknown): ServiceDefinition[] {
  return Array.isArray(value) ? value.filter(isService) : []
}

function isService(value: unknown): value is ServiceDefinition {
  return isRecord(value) && typeof value['build'] === 'function' && Array.isArray(value['consumes'])
}

function isSaga(value: unknown): value is SagaDefinition {
  return isRecord(value) && 'machine' in value && 'startedBy' in value
}

function isRoleTable(value: unknown): value is RoleTable {
  return (
    isRecord(value) &&
    Object.values(value).every(
      (may) => Array.isArray(may) && may.every((one) => typeof one === 'string')
    )
  )
}

function isRunning(value: unknown): value is Running {
  return isRecord(value) && typeof value['stop'] === 'function' && typeof value['url'] === 'string'
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

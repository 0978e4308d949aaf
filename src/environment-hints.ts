import { environmentVariables } from './config.ts'

/** What other systems call them. */
const OTHER_NAMES: Record<string, string> = {
  AMQP_URL: 'RABBITMQ_URL',
  CLOUDAMQP_URL: 'RABBITMQ_URL',
  BROKER_URL: 'RABBITMQ_URL',
  POSTGRES_URL: 'DATABASE_URL',
  POSTGRESQL_URL: 'DATABASE_URL',
  DB_URL: 'DATABASE_URL',
  PGURL: 'DATABASE_URL',
  STRIPE_API_KEY: 'STRIPE_SECRET_KEY',
  STRIPE_KEY: 'STRIPE_SECRET_KEY'
}
/** Shorter names resemble too much. */
const SHORTEST = 7
const ENVIRONMENTS = ['', 'production', 'test', 'development']

/** What in the environment looks meant and does nothing; one sentence each, without values. */
export function environmentHints(environment: NodeJS.ProcessEnv): string[] {
  const settings = Object.values(environmentVariables())
  const hints: string[] = []
  const nodeEnv = environment['NODE_ENV']
  if (nodeEnv !== undefined && !ENVIRONMENTS.includes(nodeEnv.trim()))
    hints.push(
      `NODE_ENV: expected production, test, development or none, got ${JSON.stringify(nodeEnv)}; taken for development`
    )
  for (const name of Object.keys(environment)) {
    if (settings.includes(name) || !environment[name]) continue
    const meant = settings.find((setting) => !environment[setting] && resembles(name, setting))
    if (meant)
      hints.push(`${name} is set and not read; ${meant} is, and it is not set: was that meant?`)
  }
  return hints
}

function resembles(name: string, setting: string): boolean {
  const upper = name.toUpperCase()
  if (OTHER_NAMES[upper] === setting) return true
  // Those that psql reads are meant for it.
  if (/^PG[A-Z]+$/.test(upper)) return false
  const [left, right] = [upper.replaceAll(/[-_]/g, ''), setting.replaceAll('_', '')]
  return (
    left === right ||
    (right.length >= SHORTEST &&
      Math.abs(left.length - right.length) <= 2 &&
      distance(left, right) <= 2)
  )
}

/** Letters to add, drop or change. */
function distance(one: string, other: string): number {
  let above = Array.from({ length: other.length + 1 }, (_, index) => index)
  for (const [row, letter] of one.split('').entries()) {
    const here = [row + 1]
    for (const [column, against] of other.split('').entries())
      here.push(
        Math.min(
          here[column]! + 1,
          above[column + 1]! + 1,
          above[column]! + (letter === against ? 0 : 1)
        )
      )
    above = here
  }
  return above.at(-1)!
}

/** Levels of a context that are looked through; what is deeper is taken to hold itself. */
const DEEPEST = 100

/**
 * What of a machine's context would not come back from the database as it went there; undefined
 * when all will. A field that is `undefined` does: it reads the same when it is gone.
 * @param name what the value is called
 * @returns such as `context.dueAt is a Date`
 */
export function unstorable(context: unknown, name = 'context'): string | undefined {
  return typeof context === 'object' && context !== null
    ? inside(context, name, 0)
    : `${name} is ${nameOf(context)}`
}

function problemOf(value: unknown, path: string, depth: number): string | undefined {
  if (typeof value === 'string')
    return isText(value) ? undefined : `${path} is text with a NUL or half a surrogate pair`
  if (typeof value === 'boolean' || value === null) return undefined
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : `${path} is ${value}`
  return typeof value === 'object' ? inside(value, path, depth) : `${path} is ${nameOf(value)}`
}

function inside(value: object, path: string, depth: number): string | undefined {
  if (depth === DEEPEST)
    return `${path.slice(0, 100)}… holds itself, or more than ${DEEPEST} levels`
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype === Array.prototype && Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const problem = problemOf(value[index], `${path}[${index}]`, depth + 1)
      if (problem) return problem
    }
    return undefined
  }
  if (prototype !== Object.prototype && prototype !== null) return `${path} is ${nameOf(value)}`
  for (const key of Object.keys(value)) {
    if (!isText(key)) return `${path} has a field whose name has a NUL or half a surrogate pair`
    const field = (value as Record<string, unknown>)[key]
    const problem = field === undefined ? undefined : problemOf(field, `${path}.${key}`, depth + 1)
    if (problem) return problem
  }
  return undefined
}

/** PostgreSQL's jsonb takes nothing else. */
function isText(text: string): boolean {
  return !text.includes('\0') && text.isWellFormed()
}

/** `a Date`, `a function`, `undefined`: what somebody looks for in their machine. */
function nameOf(value: unknown): string {
  if (value === undefined || value === null) return String(value)
  if (typeof value !== 'object') return `a ${typeof value}`
  const { constructor } = value
  return typeof constructor === 'function' && constructor.name !== ''
    ? `a ${constructor.name}`
    : 'an object of a class'
}

import { inspect } from 'node:util'
import { SagaboxError } from './sagabox-error.ts'

/** Characters kept of a text and of a stack: a header table has 64 KiB for everything. */
const LONGEST_TEXT = 2000
const LONGEST_STACK = 6000
const LONGEST_TYPE = 200

/** What is said of something that was thrown. */
export interface Described {
  /**
   * `DatabaseError 42703`: the error's name, and the code that programs go by. Of a SagaboxError
   * the name alone, or with what the database said: `DatabaseAway 57P01`.
   */
  type: string
  text: string
  stack?: string
}

/** Something was thrown that is no Error, or one that cannot be read like an Error. */
export class Thrown extends SagaboxError {
  override readonly name: string = 'Thrown'
  override readonly code = 'THROWN'
  readonly thrown: unknown

  constructor(thrown: unknown) {
    const { type, text, stack } = describeError(thrown)
    super(text)
    this.name = type
    this.thrown = thrown
    if (stack !== undefined) this.stack = stack
  }
}

/** An Error that can be read, compared and logged without harm: the very one, where it is one. */
export function asError(thrown: unknown): Error {
  return isSound(thrown) ? thrown : new Thrown(thrown)
}

/**
 * Never throws, whatever was thrown: getters may throw, texts may be objects, proxies may be
 * revoked.
 */
export function describeError(thrown: unknown): Described {
  try {
    return describe(thrown)
  } catch {
    return { type: 'Error', text: 'something was thrown that cannot be described' }
  }
}

/**
 * An error as log lines carry it: plain data without the objects that libraries attach to their
 * errors.
 */
export function loggedError(thrown: unknown): { type: string; message: string; stack?: string } {
  const { type, text, stack } = describeError(thrown)
  return { type, message: text, ...(stack !== undefined && { stack }) }
}

function describe(thrown: unknown): Described {
  if (thrown === null || (typeof thrown !== 'object' && typeof thrown !== 'function')) {
    return { type: 'Error', text: shortened(String(thrown), LONGEST_TEXT) }
  }
  const message = property(thrown, 'message')
  const stack = property(thrown, 'stack')
  const isText = typeof message === 'string'
  return {
    type: typeOf(thrown),
    text: shortened(
      withCause(thrown, isText ? message : '') ||
        shown(isText ? undefined : thrown) ||
        typeOf(thrown),
      LONGEST_TEXT
    ),
    ...(typeof stack === 'string' && { stack: shortened(stack, LONGEST_STACK) })
  }
}

/**
 * What `fetch` and `net` have to say stands in the cause, or in the errors of each address that was
 * tried.
 */
function withCause(thrown: object, message: string): string {
  const errors = property(thrown, 'errors')
  const first: unknown = Array.isArray(errors) ? errors[0] : property(thrown, 'cause')
  const cause = typeof first === 'object' && first !== null ? property(first, 'message') : undefined
  if (typeof cause !== 'string' || cause === '' || message.includes(cause)) return message
  return message === '' ? cause : `${message} (${cause})`
}

function typeOf(thrown: object): string {
  // The code of a SagaboxError only repeats its class, and what is on the wire stays as it was.
  const name = property(thrown, 'name')
  const code = property(thrown, isSagaboxError(thrown) ? 'databaseCode' : 'code')
  // pg's errors are named `error`.
  const constructor: unknown = property(thrown, 'constructor')
  const given = typeof name === 'string' && name !== '' && name !== 'error' ? name : undefined
  const made = typeof constructor === 'function' ? property(constructor, 'name') : undefined
  const type =
    given ?? (typeof made === 'string' && made !== '' && made !== 'Object' ? made : 'Error')
  const isCode = (typeof code === 'string' && code !== '') || typeof code === 'number'
  return shortened(isCode ? `${type} ${shortened(String(code), 50)}` : type, LONGEST_TYPE)
}

function shown(thrown: unknown): string {
  if (thrown === undefined) return ''
  const limits = { depth: 2, maxArrayLength: 10, maxStringLength: 500 }
  return inspect(thrown, { ...limits, breakLength: Infinity, customInspect: false, getters: false })
}

function property(object: object, name: string): unknown {
  try {
    return (object as Record<string, unknown>)[name]
  } catch {
    return undefined
  }
}

function isSagaboxError(thrown: object): boolean {
  try {
    return thrown instanceof SagaboxError
  } catch {
    return false
  }
}

function isSound(thrown: unknown): thrown is Error {
  try {
    if (!(thrown instanceof Error)) return false
    const { name, message, stack } = thrown as { name: unknown; message: unknown; stack?: unknown }
    return (
      typeof name === 'string' &&
      typeof message === 'string' &&
      (stack === undefined || typeof stack === 'string') &&
      hasSoundCode(thrown)
    )
  } catch {
    return false
  }
}

/** Throws where reading throws. */
function hasSoundCode(error: Error): boolean {
  const { code, driverError, cause } = error as {
    code?: unknown
    driverError?: unknown
    cause?: unknown
  }
  void [code, cause]
  return driverError === undefined || driverError === null || typeof driverError === 'object'
}

function shortened(text: string, most: number): string {
  return text.length <= most ? text : text.slice(0, most)
}

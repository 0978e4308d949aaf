import { MAX_MESSAGE_BYTES } from './envelope.ts'
import { NAMESPACE } from './message.ts'

/**
 * Bytes of a large payload in which its type is looked for: MassTransit writes it before the body.
 */
const HEAD_BYTES = 16 * 1024

const URN = /^urn:message:/
const FAULT = /^MassTransit:Fault\[\[(.+)\]\]$/

/**
 * The one name of a type among dead letters: a contract's name, also where the contract is not
 * known here; `Namespace:Name` for types of other namespaces.
 * @param type a contract's name, `Namespace:Name` or `urn:message:Namespace:Name`
 */
export function typeName(type: string): string {
  const name = type.replace(URN, '')
  const [, faulted] = FAULT.exec(name) ?? []
  if (faulted !== undefined) return `Fault<${typeName(faulted)}>`
  return name.startsWith(`${NAMESPACE}:`) ? name.slice(NAMESPACE.length + 1) : name
}

/** All names under which letters of a type may be stored: 0.1 used two. */
export function namesOf(type: string): string[] {
  const name = typeName(type)
  const [, faulted] = /^Fault<(.+)>$/.exec(name) ?? []
  if (faulted !== undefined) return [name, `MassTransit:Fault[[${NAMESPACE}:${faulted}]]`]
  return name.includes(':') ? [name] : [name, `${NAMESPACE}:${name}`]
}

/**
 * What the sender of unread bytes calls their types.
 * @returns as the envelope has them; none when that cannot be told
 */
export function typesNamedIn(payload: Buffer): string[] {
  if (payload.length > HEAD_BYTES) return typesAtTheStart(payload)
  try {
    const { messageType } = JSON.parse(payload.toString().replace(/^\uFEFF/, '')) as {
      messageType?: unknown
    }
    return Array.isArray(messageType) ? messageType.filter((type) => typeof type === 'string') : []
  } catch {
    return [] // bytes without a type
  }
}

/** To parse all of it only for its name may take a hundred milliseconds. */
function typesAtTheStart(payload: Buffer): string[] {
  if (payload.length > MAX_MESSAGE_BYTES) return []
  const head = payload.subarray(0, HEAD_BYTES).toString()
  const [, list] = /"messageType"\s*:\s*(\[\s*"[^"]*"(?:\s*,\s*"[^"]*")*\s*\])/.exec(head) ?? []
  return list === undefined ? [] : typesNamedIn(Buffer.from(`{"messageType":${list}}`))
}

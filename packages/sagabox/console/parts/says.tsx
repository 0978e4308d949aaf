import type { ComponentChildren } from 'preact'
import type { Problem } from '../ask.ts'
import { surroundings } from '../services.ts'
import { here, linkTo } from '../place.ts'

/** Names the environment: on the page, and in each dialog. */
export function Badge() {
  const { label, color, readOnly } = surroundings.value ?? {}
  return (
    <>
      {label ? (
        <svg
          class="badge"
          role="img"
          aria-label={`Environment: ${label}`}
          width={label.length * 9 + 20}
          height="24"
        >
          <rect width="100%" height="100%" rx="12" {...(color && { fill: color })} />
          <text
            x="50%"
            y="16.5"
            text-anchor="middle"
            {...(color && { fill: isDark(color) ? '#fff' : '#000' })}
          >
            {label}
          </text>
        </svg>
      ) : null}
      {readOnly ? <span class="chip">only shows</span> : null}
    </>
  )
}

function isDark(color: string | null | undefined): boolean {
  const [, hex] = /^#([0-9a-f]{6})$/i.exec(color ?? '') ?? []
  if (hex === undefined) return true
  const [r, g, b] = [0, 2, 4].map((at) => {
    const part = Number.parseInt(hex.slice(at, at + 2), 16) / 255
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4
  }) as [number, number, number]
  return 0.2126 * r + 0.7152 * g + 0.0722 * b < 0.179
}

/** Why something is not shown. */
export function Says({ problem, what }: { problem: Problem | undefined; what: string }) {
  if (!problem) return null
  if (problem.isMissingRoute)
    return <p class="quiet">This service is older than this page and does not tell {what}.</p>
  return (
    <p class="says problem" role="status">
      {cap(what)} cannot be shown: {problem.message}
    </p>
  )
}

export function cap(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

/** Something that the page waits for. */
export function Loading({ what }: { what: string }) {
  return (
    <p class="quiet" role="status">
      Looking for {what} …
    </p>
  )
}

/** A state as a chip. */
export function State({ state, tone }: { state: string; tone?: string | undefined }) {
  return <span class={`chip ${tone ?? ''}`}>{state}</span>
}

/** Tabs that are links. */
export function Tabs({
  name,
  of,
  chosen
}: {
  name: string
  of: readonly string[]
  chosen: string
}) {
  if (of.length < 2) return null
  return (
    <nav class="tabs" aria-label={cap(name)}>
      {of.map((one) => (
        <a
          key={one}
          href={here({ [name]: one, cursor: null, id: null })}
          aria-current={one === chosen ? 'true' : undefined}
        >
          {one}
        </a>
      ))}
    </nav>
  )
}

/** A screen's heading, with how old it is. */
export function Head({
  title,
  children
}: {
  title: ComponentChildren
  children?: ComponentChildren
}) {
  return (
    <header class="head">
      <h1 tabIndex={-1}>{title}</h1>
      {children}
    </header>
  )
}

export function SagaLink({
  service,
  saga,
  id,
  text
}: {
  service: string
  saga: string
  id: string
  text?: string | undefined
}) {
  return (
    <a href={linkTo({ view: 'saga', service, saga, id })} class="id">
      {text ?? id}
    </a>
  )
}

/** A text of whatever kind and size: shown as text, the beginning first. */
export function Text({ text, label }: { text: string; label: string }) {
  const shown = text.length > SHOWN ? text.slice(0, SHOWN) : text
  return (
    <>
      <pre tabIndex={0} aria-label={label}>
        {shown}
      </pre>
      {text.length > SHOWN ? (
        <p class="quiet">
          The first {SHOWN.toLocaleString()} of {text.length.toLocaleString()} characters.
        </p>
      ) : null}
    </>
  )
}

const SHOWN = 20_000

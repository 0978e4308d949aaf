import { fromNow, now } from '../clock.ts'

/** When something was or will be, from now; the reader's zone and UTC at hand. */
export function When({ at }: { at: string | number | null | undefined }) {
  if (at == null) return <span class="quiet">never</span>
  const time = new Date(at)
  return (
    <time dateTime={time.toISOString()} title={`${local(time)}\n${time.toISOString()}`}>
      {fromNow(time.getTime(), now.value)}
    </time>
  )
}

/** A moment by the clock of the reader. */
export function Clock({ at }: { at: string | number }) {
  const time = new Date(at)
  return (
    <time dateTime={time.toISOString()} title={`${time.toISOString()} (UTC)`}>
      {local(time)}
    </time>
  )
}

/** How old what is shown is; says so loudly when it could not be renewed. */
export function Age({
  of: { at, problem },
  what
}: {
  of: { at?: number | undefined; problem?: { message: string } | undefined }
  what?: string
}) {
  if (problem && at !== undefined)
    return (
      <span class="age stale" title={problem.message}>
        not renewed since {local(new Date(at))}: {problem.message}
      </span>
    )
  return (
    <span class="age">
      {what ?? 'as of'} {at === undefined ? '…' : fromNow(at, now.value)}
    </span>
  )
}

function local(time: Date): string {
  return time.toLocaleString(undefined, {
    year: 'numeric',
    month: 'short',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    timeZoneName: 'short'
  })
}

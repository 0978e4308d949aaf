import { ask } from '../ask.ts'
import { confirm } from './dialog.tsx'
import { Age } from './time.tsx'
import { Says } from './says.tsx'
import { linkTo } from '../place.ts'
import { DETAIL_MS, useWatched } from '../watch.ts'

/** Something that is done to many, step by step: to letters (handled, failed again) or sagas. */
interface Progress {
  state: 'running' | 'done' | 'stopped'
  /** Of letters, why it was stopped. */
  reason?: string | null
  stoppedWhy?: string | null
  handled?: number
  moved?: number
  failedAgain?: number
  failed?: number
  left?: number
  waiting?: number
  underWay: number
  lost?: number
  step?: string
  failures?: { sagaId: string; error: string }[]
}

/**
 * How it goes, and the way to stop it.
 * @param path of it in the service's API
 * @param reasonAs what that API calls the reason for stopping it
 */
export function Job({
  service,
  path,
  reasonAs
}: {
  service: string
  path: string
  reasonAs: 'why' | 'reason'
}) {
  const job = useWatched(`${service}${path}`, () => ask<Progress>(service, path), DETAIL_MS)
  if (!job.value) return <Says problem={job.problem} what="how it goes" />
  const { state, underWay, lost = 0, step, failures = [] } = job.value
  const stoppedWhy = job.value.stoppedWhy ?? job.value.reason
  const good = job.value.handled ?? job.value.moved ?? 0
  const bad = job.value.failedAgain ?? job.value.failed ?? 0
  const left = job.value.left ?? job.value.waiting ?? 0
  const isRunning = state === 'running'
  const stop = () =>
    confirm({
      title: 'Stop it',
      tells: <p>What is under way goes on; nothing more is begun.</p>,
      verb: 'Stop',
      async act(why) {
        await ask(service, `${path}/stop`, { method: 'POST', body: { [reasonAs]: why } })
        return 'Stopped.'
      },
      after: () => void job.refresh()
    })
  return (
    <section
      class={`says job ${bad > 0 ? 'problem' : 'ok'}`}
      aria-label="Progress"
      data-job={state}
    >
      <p>
        <strong>{isRunning ? 'Under way' : state === 'done' ? 'Done' : 'Stopped'}:</strong> {good}{' '}
        done, {bad} failed
        {underWay > 0 ? `, ${underWay} without an outcome yet` : ''}
        {lost > 0 ? `, ${lost} lost from sight` : ''}, {left} left. <Age of={job} />
      </p>
      <progress
        max={Math.max(1, good + bad + underWay + left)}
        value={good + bad}
        aria-label="Done of all"
      />
      {isRunning && step ? (
        <p>The step of {step === 'rest' ? 'the rest' : step} is under way.</p>
      ) : null}
      {state === 'stopped' && stoppedWhy ? <p>{stoppedWhy}</p> : null}
      {failures.length > 0 ? (
        <ul>
          {failures.map(({ sagaId, error }) => (
            <li key={sagaId}>
              <a class="id" href={linkTo({ view: 'search', q: sagaId })}>
                {sagaId}
              </a>
              : {error}
            </li>
          ))}
        </ul>
      ) : null}
      {isRunning ? (
        <button type="button" onClick={stop}>
          Stop …
        </button>
      ) : null}
    </section>
  )
}

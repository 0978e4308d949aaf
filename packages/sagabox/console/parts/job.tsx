import { ask } from '../ask.ts'
import { confirm } from './dialog.tsx'
import { Age } from './time.tsx'
import { Says } from './says.tsx'
import { DETAIL_MS, useWatched } from '../watch.ts'

/** Something that is done to many, step by step. */
interface Progress {
  state: string
  reason?: string | null
  total?: number
  left?: number
  done?: number
  handled?: number
  failed?: number
  failedAgain?: number
  underWay?: number
  lost?: number
}

/** How it goes, and the way to stop it. @param path of it in the service's API */
export function Job({ service, path }: { service: string; path: string }) {
  const job = useWatched(`${service}${path}`, () => ask<Progress>(service, path), DETAIL_MS)
  if (!job.value) return <Says problem={job.problem} what="how it goes" />
  const { state, reason, left = 0, underWay = 0, lost = 0 } = job.value
  const good = job.value.handled ?? job.value.done ?? 0
  const bad = job.value.failedAgain ?? job.value.failed ?? 0
  const isRunning = state === 'running'
  const stop = () =>
    confirm({
      title: 'Stop it',
      tells: <p>What is under way goes on; nothing more is begun.</p>,
      verb: 'Stop',
      async act(why) {
        await ask(service, `${path}/stop`, { method: 'POST', body: { why } })
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
      {reason ? <p>{reason}</p> : null}
      {isRunning ? (
        <button type="button" onClick={stop}>
          Stop …
        </button>
      ) : null}
    </section>
  )
}

import { useState } from 'preact/hooks'
import { ask, search } from '../ask.ts'
import { duration, now } from '../clock.ts'
import { confirm } from '../parts/dialog.tsx'
import { Age, When } from '../parts/time.tsx'
import { Head, Loading, SagaLink, Says, State, Tabs } from '../parts/says.tsx'
import { at, go, here, linkTo } from '../place.ts'
import { may, sagas } from '../services.ts'
import type { Counts, Explanation, Page, SagaRow } from '../types.ts'
import { LIST_MS, OVERVIEW_MS, useWatched } from '../watch.ts'
import { Job } from '../parts/job.tsx'

/** So many of the stuck ones are explained in the list. */
const EXPLAINED = 12

/** Instances of a saga, by state or those that wait too long. */
export function Sagas() {
  const found = sagas.value
  const chosen = found.find(({ saga }) => saga === at('saga')) ?? found[0]
  if (!chosen)
    return (
      <>
        <Head title="Sagas" />
        <p>No service that is reached has a saga.</p>
      </>
    )
  return (
    <>
      <Tabs name="saga" of={found.map(({ saga }) => saga)} chosen={chosen.saga} />
      <List {...chosen} />
    </>
  )
}

function List({ service, saga }: { service: string; saga: string }) {
  const state = at('state')
  const stuck = at('stuck')
  const cursor = at('cursor')
  const query = search({ state, stuck, cursor, limit: 50 })
  const list = useWatched(
    `${service}/${saga}${query}`,
    () => ask<Page<SagaRow>>(service, `/sagas/${saga}${query}`),
    LIST_MS
  )
  const counts = useWatched(
    `${service}/${saga}/summary`,
    () => ask<Counts>(service, `/sagas/${saga}/summary`),
    LIST_MS * 2
  )
  const rows = list.value?.items ?? []
  const reasons = useReasons(service, saga, rows)
  const states = Object.entries(counts.value?.byState ?? {}).toSorted(([a], [b]) =>
    a.localeCompare(b)
  )
  return (
    <>
      <Head title={`${saga} sagas`}>
        <Age of={list} />
      </Head>
      <div class="filters">
        <label for="state">State</label>
        <select
          id="state"
          value={state}
          onChange={(event) => go(here({ state: event.currentTarget.value, cursor: null }))}
        >
          <option value="">all</option>
          {states.map(([name, count]) => (
            <option key={name} value={name}>
              {name} ({count})
            </option>
          ))}
          {state !== '' && !states.some(([name]) => name === state) ? (
            <option value={state}>{state}</option>
          ) : null}
        </select>
        <label class="inline">
          <input
            type="checkbox"
            checked={stuck === 'true'}
            onChange={(event) =>
              go(here({ stuck: event.currentTarget.checked ? 'true' : null, cursor: null }))
            }
          />
          waited longer than their deadline{counts.value ? ` (${counts.value.stuck})` : ''}
        </label>
        <GroupActions
          service={service}
          saga={saga}
          state={state}
          stuck={stuck}
          shown={rows.length}
        />
      </div>
      {at('job') ? (
        <Job service={service} path={`/sagas/${saga}/jobs/${at('job')}`} reasonAs="reason" />
      ) : null}
      <Says problem={list.problem} what="the list" />
      {!list.value && !list.problem ? <Loading what="sagas" /> : null}
      {list.value && rows.length === 0 ? (
        <p>
          {list.value.nextCursor
            ? 'None among those looked at; there are older ones.'
            : 'There is none.'}
        </p>
      ) : null}
      {rows.length > 0 ? (
        <div class="wide" tabIndex={0} role="group" aria-label="Sagas">
          <table class="rows">
            <thead>
              <tr>
                <th scope="col">saga</th>
                <th scope="col">state</th>
                <th scope="col">in it for</th>
                <th scope="col" class="number">
                  steps
                </th>
                <th scope="col">began</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <Row
                  key={row.sagaId}
                  service={service}
                  saga={saga}
                  row={row}
                  reason={reasons[row.sagaId]}
                />
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
      <p class="pages">
        {cursor ? <a href={here({ cursor: null })}>Newest</a> : null}
        {list.value?.nextCursor ? (
          <a href={here({ cursor: list.value.nextCursor })}>Older</a>
        ) : null}
      </p>
    </>
  )
}

function Row({
  service,
  saga,
  row,
  reason
}: {
  service: string
  saga: string
  row: SagaRow
  reason: Explanation | undefined
}) {
  const { sagaId, key, state, updatedAt, stuckSince, version, createdAt } = row
  return (
    <>
      <tr data-row>
        <td>
          <SagaLink service={service} saga={saga} id={sagaId} text={key} />
        </td>
        <td>
          <State state={state} tone={stuckSince ? 'bad' : ''} />
        </td>
        <td data-label="for" title={new Date(updatedAt).toISOString()}>
          {duration(Math.max(0, Math.floor((now.value - Date.parse(updatedAt)) / 1000)) * 1000)}
          {stuckSince ? (
            <span class="bad">
              {' '}
              stuck since <When at={stuckSince} />
            </span>
          ) : null}
        </td>
        <td class="number" data-label="steps">
          {version}
        </td>
        <td data-label="began">
          <When at={createdAt} />
        </td>
      </tr>
      {reason ? (
        <tr class="why">
          <td colSpan={5}>{reason.sentence}</td>
        </tr>
      ) : null}
    </>
  )
}

/** Why those that are stuck do not move: asked seldom, for the first of them. */
function useReasons(
  service: string,
  saga: string,
  rows: readonly SagaRow[]
): Record<string, Explanation> {
  const ids = rows
    .filter(({ stuckSince }) => stuckSince)
    .slice(0, EXPLAINED)
    .map(({ sagaId }) => sagaId)
  const { value } = useWatched(
    ids.length === 0 ? null : `why ${service}/${saga} ${ids.join()}`,
    async () => {
      const found = await Promise.all(
        ids.map((id) =>
          ask<Explanation>(service, `/sagas/${saga}/${id}/explanation`).then(
            (reason) => [[id, reason]] as const,
            () => []
          )
        )
      )
      return Object.fromEntries(found.flat())
    },
    OVERVIEW_MS
  )
  return value ?? {}
}

interface Group {
  service: string
  saga: string
  state: string
  stuck: string
  shown: number
}

function GroupActions({ service, saga, state, stuck, shown }: Group) {
  const [failures, setFailures] = useState('1')
  if (shown === 0 || (state === '' && stuck === '')) return null
  const which = `all ${saga} sagas${state ? ` in ${state}` : ''}${stuck ? ' that have waited longer than their deadline' : ''}`
  const open = (action: 'retry' | 'cancel', verb: string, tells: string) =>
    confirm({
      title: `${verb} ${which}`,
      tells: <p>{tells} First one, then 5, then 20, then the rest.</p>,
      verb: `${verb} them`,
      isHarmful: action === 'cancel',
      fields: (
        <>
          <label for="failures">Stop when so many have failed</label>
          <input
            id="failures"
            type="number"
            min="1"
            max="1000"
            defaultValue={failures}
            onInput={(event) => setFailures(event.currentTarget.value)}
          />
        </>
      ),
      async act(reason) {
        const input = document.querySelector<HTMLInputElement>('#failures')
        const job = await ask<{ id: string | number }>(service, `/sagas/${saga}/jobs`, {
          method: 'POST',
          body: {
            action,
            filter: { ...(state && { state }), ...(stuck && { stuck: true }) },
            reason,
            stopAfterFailures: Number(input?.value ?? failures)
          }
        })
        go(linkTo({ view: 'sagas', service, saga, state, stuck, job: job.id }))
        return `Begun as job ${job.id}.`
      }
    })
  return (
    <span class="buttons">
      {may('saga:retry') ? (
        <button
          type="button"
          onClick={() =>
            open('retry', 'Retry', 'The commands whose answers they wait for are sent once more.')
          }
        >
          Retry all of these …
        </button>
      ) : null}
      {may('saga:cancel') ? (
        <button
          type="button"
          class="harmful"
          onClick={() =>
            open('cancel', 'Cancel', 'Each is cancelled, and what was done for it is undone.')
          }
        >
          Cancel all of these …
        </button>
      ) : null}
    </span>
  )
}

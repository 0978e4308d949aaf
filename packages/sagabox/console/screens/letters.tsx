import { useState } from 'preact/hooks'
import { ask, search } from '../ask.ts'
import { confirm } from '../parts/dialog.tsx'
import { Job } from '../parts/job.tsx'
import { Age, When } from '../parts/time.tsx'
import { PerService } from '../parts/per-service.tsx'
import { Head, Loading, Says, State } from '../parts/says.tsx'
import { at, here, go, linkTo } from '../place.ts'
import { may } from '../services.ts'
import type { GroupRetry, LetterGroup, LetterRow, Page } from '../types.ts'
import { LIST_MS, useWatched } from '../watch.ts'

/** Messages that could not be handled: groups with the same cause, then the letters of one. */
export function Letters() {
  return <PerService title="Dead letters" show={(service) => <Groups service={service} />} />
}

function Groups({ service }: { service: string }) {
  const status = at('status') || 'waiting'
  const root = `/ops/${service}/dead-letters`
  const groups = useWatched(
    `${service} groups ${status}`,
    () =>
      ask<{ total: number; atLeast: boolean; groups: LetterGroup[] }>(
        service,
        `${root}/groups?status=${status}`
      ),
    LIST_MS
  )
  const retries = useWatched(
    `${service} retries`,
    () => ask<{ items: GroupRetry[] }>(service, `${root}/retries`),
    LIST_MS
  )
  const found = groups.value
  const exception = at('exception')
  const chosen = found?.groups.find((group) => isChosen(group))
  return (
    <>
      <Head title={`Dead letters of ${service}`}>
        <Age of={groups} />
      </Head>
      <div class="filters">
        <label for="status">Status</label>
        <select
          id="status"
          value={status}
          onChange={(event) =>
            go(
              here({
                status: event.currentTarget.value,
                exception: null,
                type: null,
                kind: null,
                cursor: null
              })
            )
          }
        >
          {['waiting', 'retrying', 'handled', 'undone'].map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      </div>
      {retries.value?.items
        .filter(({ state, id }) => state === 'running' || String(id) === at('retry'))
        .map(({ id }) => (
          <Job key={id} service={service} path={`${root}/retries/${id}`} reasonAs="why" />
        ))}
      <Says problem={groups.problem} what="the dead letters" />
      {!found && !groups.problem ? <Loading what="dead letters" /> : null}
      {found && found.groups.length === 0 ? (
        <div class="verdict ok">
          <p class="sentence">
            {status === 'waiting'
              ? `No dead letter waits: ${service} has handled all that came.`
              : `None is ${status}.`}
          </p>
        </div>
      ) : null}
      {found && found.groups.length > 0 ? (
        <div class="wide" tabIndex={0} role="group" aria-label="Groups">
          <table class="rows">
            <thead>
              <tr>
                <th scope="col" class="number">
                  letters
                </th>
                <th scope="col">message</th>
                <th scope="col">cause</th>
                <th scope="col">newest</th>
                <th scope="col">oldest</th>
              </tr>
            </thead>
            <tbody>
              {found.groups.map((group) => (
                <tr
                  key={`${group.kind} ${group.type} ${group.exception}`}
                  data-row
                  class={isChosen(group) ? 'chosen' : ''}
                >
                  <td class="number">
                    <strong>{group.count}</strong>
                  </td>
                  <td>
                    <a
                      href={here({
                        exception: group.exception,
                        type: group.type,
                        kind: group.kind,
                        cursor: null
                      })}
                    >
                      {group.type ?? 'unreadable'}
                    </a>
                  </td>
                  <td>
                    <strong>{group.exception}</strong>
                    <div class="reason">{group.reason}</div>
                    {group.note ? (
                      <div>
                        {group.cameBack ? <State state="came back" tone="bad" /> : null}
                        {group.note.resolvedAt !== null && !group.cameBack ? (
                          <State state="resolved" />
                        ) : null}{' '}
                        {group.note.note}{' '}
                        <span class="quiet">
                          {group.note.by ?? 'noted'}, <When at={group.note.at} />
                        </span>
                      </div>
                    ) : null}
                  </td>
                  <td data-label="newest">
                    <When at={group.newest} />
                  </td>
                  <td data-label="oldest">
                    <When at={group.oldest} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
      {exception !== '' ? (
        <Group
          service={service}
          status={status}
          group={chosen}
          refresh={() => void groups.refresh()}
        />
      ) : null}
    </>
  )
}

function isChosen({ exception, type, kind }: LetterGroup): boolean {
  return exception === at('exception') && (type ?? '') === at('type') && kind === at('kind')
}

interface Opened {
  service: string
  status: string
  group: LetterGroup | undefined
  refresh(): void
}

function Group({ service, status, group, refresh }: Opened) {
  const root = `/ops/${service}/dead-letters`
  const filter = { exception: at('exception'), type: at('type'), kind: at('kind') }
  const query = search({ ...filter, status, cursor: at('cursor'), limit: 50 })
  const letters = useWatched(
    `${service}${root}${query}`,
    () => ask<Page<LetterRow>>(service, `${root}${query}`),
    LIST_MS
  )
  const given = Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== ''))
  const retry = () =>
    confirm({
      title: `Retry ${group?.count ?? 'all'} letters: ${filter.exception}`,
      tells: (
        <p>
          They go back to {service} under their own ids: one first, then five, then twenty, then the
          rest. It stops by itself when they fail again.
        </p>
      ),
      verb: 'Retry them',
      async act(why) {
        const begun = await ask<GroupRetry>(service, `${root}/retry`, {
          method: 'POST',
          body: { ...given, why }
        })
        go(here({ retry: begun.id }))
        return `Group retry ${begun.id} has begun.${begun.warning ? ` ${begun.warning}.` : ''}`
      },
      after: refresh
    })
  return (
    <section aria-labelledby="group">
      <h2 id="group">
        {filter.type || 'unreadable'}: {filter.exception}
      </h2>
      <p class="buttons">
        {may('letter:retry') && status === 'waiting' ? (
          <button type="button" class="main" data-key="r" title="Key: r" onClick={retry}>
            Retry all of them …
          </button>
        ) : null}
        {group ? <Note service={service} group={group} refresh={refresh} /> : null}
      </p>
      <Says problem={letters.problem} what="the letters" />
      {letters.value ? (
        <div class="wide" tabIndex={0} role="group" aria-label="Letters">
          <table class="rows">
            <thead>
              <tr>
                <th scope="col" class="number">
                  letter
                </th>
                <th scope="col">belongs to</th>
                <th scope="col">reason</th>
                <th scope="col" class="number">
                  seen
                </th>
                <th scope="col">last</th>
              </tr>
            </thead>
            <tbody>
              {letters.value.items.map((letter) => (
                <tr key={letter.id} data-row>
                  <td class="number">
                    <a href={linkTo({ view: 'letter', service, id: letter.id })}>{letter.id}</a>
                  </td>
                  <td>
                    {letter.correlationId ? (
                      <a href={linkTo({ view: 'search', q: letter.correlationId })} class="id">
                        {letter.correlationId}
                      </a>
                    ) : (
                      '–'
                    )}
                  </td>
                  <td class="reason">{letter.reason}</td>
                  <td class="number" data-label="seen">
                    {letter.seen}
                  </td>
                  <td>
                    <When at={letter.lastSeenAt} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
      <p class="pages">
        {at('cursor') ? <a href={here({ cursor: null })}>Newest</a> : null}
        {letters.value?.nextCursor ? (
          <a href={here({ cursor: letters.value.nextCursor })}>Older</a>
        ) : null}
      </p>
    </section>
  )
}

/** What people know of a group, for those who come after them. */
function Note({
  service,
  group,
  refresh
}: {
  service: string
  group: LetterGroup
  refresh(): void
}) {
  const [resolved, setResolved] = useState(false)
  const { id } = group
  if (id === undefined || !may('saga:note')) return null
  const open = () =>
    confirm({
      title: `Note on ${group.exception}`,
      tells: <p>What you write below is the note: others see it beside the group.</p>,
      verb: 'Keep the note',
      fields: (
        <label class="inline">
          <input
            type="checkbox"
            id="resolved"
            defaultChecked={resolved}
            onChange={(event) => setResolved(event.currentTarget.checked)}
          />
          resolved: say so when it comes back
        </label>
      ),
      async act(note) {
        const isResolved = document.querySelector<HTMLInputElement>('#resolved')?.checked ?? false
        await ask(service, `/ops/${service}/dead-letters/groups/${encodeURIComponent(id)}/note`, {
          method: 'PUT',
          body: { note, resolved: isResolved }
        })
        return 'The note is kept.'
      },
      after: refresh
    })
  return (
    <button type="button" onClick={open}>
      Note …
    </button>
  )
}

import { ask } from '../ask.ts'
import { duration } from '../clock.ts'
import { Age, When } from '../parts/time.tsx'
import { Head, Loading, Says } from '../parts/says.tsx'
import { parted } from '../parted.ts'
import { linkTo } from '../place.ts'
import { sagas, services } from '../services.ts'
import type {
  Ages,
  Counts,
  Explanation,
  GroupRetry,
  LetterGroup,
  OutboxStatus,
  Page,
  SagaRow,
  ServiceInfo
} from '../types.ts'
import { OVERVIEW_MS, useWatched, type Watched } from '../watch.ts'
import { PeerKey } from '../parts/peer-key.tsx'

const BUCKETS = ['<10s', '<1m', '<10m', '<1h', 'older']

interface SagaLook {
  counts: Counts
  ages: Ages | undefined
  /** Why the one that has been stuck for longest does not move. */
  why: string
}

interface ServiceLook {
  outbox: OutboxStatus
  groups: { total: number; atLeast: boolean; groups: LetterGroup[] }
  retries: GroupRetry[]
  endpoint: { status: string; since: string | null; reason: string | null }
}

/** Whether things end, which do not, and where to look. */
export function Overview() {
  const list = services.value
  const found = sagas.value
  const looks = useWatched(
    `sagas ${found.map(({ service, saga }) => `${service}/${saga}`).join()}`,
    () => Promise.all(found.map(({ service, saga }) => lookAtSaga(service, saga))),
    OVERVIEW_MS
  )
  const reached = list.filter(({ reachable, error }) => reachable && error === null)
  const works = useWatched(
    `services ${reached.map(({ name }) => name).join()}`,
    async () => {
      const each = await Promise.all(
        reached.map(
          async ({ name }) => [name, await lookAt(name).catch((error: Error) => error)] as const
        )
      )
      return Object.fromEntries(each)
    },
    OVERVIEW_MS
  )
  return (
    <>
      <Head title="Overview">
        <Age of={looks} />
      </Head>
      <Verdict list={list} looks={looks} works={works} />
      {found.length === 0 ? <p class="quiet">No service here has a saga.</p> : null}
      {found.map(({ service, saga }, index) => (
        <section key={`${service}/${saga}`} aria-labelledby={`saga-${saga}`}>
          <h2 id={`saga-${saga}`}>
            <a href={linkTo({ view: 'sagas', service, saga })}>{saga}</a>
          </h2>
          <Says problem={looks.problem} what={`the ${saga} sagas`} />
          {looks.value?.[index] ? (
            <Heat service={service} saga={saga} look={looks.value[index]} />
          ) : null}
        </section>
      ))}
      <section aria-labelledby="services">
        <h2 id="services">Services</h2>
        <ul class="cards">
          {list.map((service) => (
            <Card key={service.name} service={service} look={works.value?.[service.name]} />
          ))}
        </ul>
      </section>
    </>
  )
}

async function lookAtSaga(service: string, saga: string): Promise<SagaLook> {
  const [counts, ages] = await Promise.all([
    ask<Counts>(service, `/sagas/${saga}/summary`),
    // Older services have none.
    ask<Ages>(service, `/sagas/${saga}/ages`).catch(() => undefined)
  ])
  return { counts, ages, why: counts.stuck > 0 ? await whyOf(service, saga) : '' }
}

async function whyOf(service: string, saga: string): Promise<string> {
  try {
    const { items } = await ask<Page<SagaRow>>(service, `/sagas/${saga}?stuck=true&limit=1`)
    if (!items[0]) return ''
    const { sentence } = await ask<Explanation>(
      service,
      `/sagas/${saga}/${items[0].sagaId}/explanation`
    )
    return parted(sentence)[0]
  } catch {
    return ''
  }
}

async function lookAt(name: string): Promise<ServiceLook> {
  const [outbox, groups, { items }, endpoint] = await Promise.all([
    ask<OutboxStatus>(name, `/ops/${name}/outbox`),
    ask<ServiceLook['groups']>(name, `/ops/${name}/dead-letters/groups?status=waiting`),
    ask<{ items: GroupRetry[] }>(name, `/ops/${name}/dead-letters/retries`),
    ask<ServiceLook['endpoint']>(name, `/ops/${name}/endpoint`)
  ])
  return { outbox, groups, retries: items.filter(({ state }) => state === 'running'), endpoint }
}

/** Beside what is wrong, that nothing else is would be misread. */
function isNews(sentence: string): boolean {
  return !sentence.startsWith('Nothing')
}

interface Trouble {
  text: string
  link?: string
}

/** What is wrong in sentences, the worst first; that all is well when nothing is. */
function Verdict({
  list,
  looks,
  works
}: {
  list: readonly ServiceInfo[]
  looks: Watched<SagaLook[]>
  works: Watched<Record<string, ServiceLook | Error>>
}) {
  if (!looks.value || !works.value)
    return looks.problem ? (
      <Says problem={looks.problem} what="whether all is well" />
    ) : (
      <Loading what="what waits" />
    )
  const troubles = [
    ...list.flatMap(unreached),
    ...looks.value.flatMap((look, index) => stuckOf(sagas.value[index], look)),
    ...Object.entries(works.value).flatMap(([name, look]) => troublesOf(name, look))
  ]
  const sentences = looks.value.flatMap(({ ages }) => (ages?.sentence ? [ages.sentence] : []))
  const open = looks.value.reduce((sum, { ages }) => sum + waitingIn(ages), 0)
  if (troubles.length === 0)
    return (
      <div class="verdict ok">
        <p class="sentence">
          Everything goes on: nothing is stuck, no message is dead, no outbox is held up.
        </p>
        {sentences.map((sentence) => (
          <p key={sentence}>{sentence}</p>
        ))}
        {open > 0 ? <p>{open} under way.</p> : null}
      </div>
    )
  const [first, ...others] = troubles
  return (
    <div class="verdict problem">
      <p class="sentence">
        <TroubleText trouble={first!} />
      </p>
      {others.length > 0 ? (
        <ul>
          {others.map((trouble) => (
            <li key={trouble.text}>
              <TroubleText trouble={trouble} />
            </li>
          ))}
        </ul>
      ) : null}
      {sentences.filter(isNews).map((sentence) => (
        <p key={sentence}>{sentence}</p>
      ))}
    </div>
  )
}

function TroubleText({ trouble: { text, link } }: { trouble: Trouble }) {
  return link ? <a href={link}>{text}</a> : <>{text}</>
}

function waitingIn(ages: Ages | undefined): number {
  return (ages?.states ?? []).reduce(
    (sum, { counts }) => sum + Object.values(counts).reduce((all, count) => all + count, 0),
    0
  )
}

function unreached({ name, reachable, error, since }: ServiceInfo): Trouble[] {
  if (reachable && error === null) return []
  return reachable
    ? [{ text: `${name} lets this sign-in not see anything: ${error}.` }]
    : [{ text: `${error}${since ? `, since ${new Date(since).toLocaleTimeString()}` : ''}.` }]
}

function stuckOf(
  of: { service: string; saga: string } | undefined,
  { counts: { stuck }, why }: SagaLook
): Trouble[] {
  if (!of || stuck === 0) return []
  return [
    {
      text: `${stuck} ${of.saga} ${stuck === 1 ? 'saga has' : 'sagas have'} waited longer than the deadline.${why ? ` ${stuck === 1 ? 'Why' : 'The first'}: ${why}` : ''}`,
      link: linkTo({ view: 'sagas', ...of, stuck: 'true' })
    }
  ]
}

function troublesOf(name: string, look: ServiceLook | Error): Trouble[] {
  if (look instanceof Error) return [{ text: `${name}: ${look.message}.` }]
  const { groups, outbox, endpoint, retries } = look
  const [largest] = groups.groups.toSorted((a, b) => b.count - a.count)
  return [
    ...(largest
      ? [
          {
            text: `${name} could not handle ${groups.total}${groups.atLeast ? ' or more' : ''} ${groups.total === 1 ? 'message' : 'messages'}, most of them for ${largest.exception}: ${shortened(largest.reason)}`,
            link: linkTo({ view: 'letters', service: name })
          }
        ]
      : []),
    ...outbox.putOff.map(({ destination, rows, reason }) => ({
      text: `${name} keeps ${rows} ${rows === 1 ? 'message' : 'messages'} that ${destination} does not take: ${reason ?? 'no reason is known'}.`
    })),
    ...(outbox.pending > outbox.postponed && outbox.oldestAgeSeconds > SLOW_S
      ? [
          {
            text: `The outbox of ${name} is held up: ${outbox.pending} wait, the oldest for ${duration(outbox.oldestAgeSeconds * 1000)}; ${outbox.leader ? (outbox.lastError ?? 'no error is known') : 'nobody sends'}.`
          }
        ]
      : []),
    ...(endpoint.status === 'paused'
      ? [{ text: `${name} takes no messages: paused, ${endpoint.reason}.` }]
      : []),
    ...retries.map((retry) => ({
      text: `A group retry of ${name} runs: ${retry.handled} handled, ${retry.failedAgain} failed again, ${retry.left} left.`,
      link: linkTo({ view: 'letters', service: name })
    }))
  ]
}

/** An outbox is empty within a second; one that is not has trouble. */
const SLOW_S = 15

function shortened(text: string): string {
  return text.length > 160 ? `${text.slice(0, 160)}…` : text
}

/** States and how long what is in them has been: a cell is a link to those in it. */
function Heat({
  service,
  saga,
  look: { counts, ages }
}: {
  service: string
  saga: string
  look: SagaLook
}) {
  const of = (state: string) => linkTo({ view: 'sagas', service, saga, state })
  if (!ages) {
    const rows = Object.entries(counts.byState)
    return (
      <>
        <p class="quiet">
          This service is older than this page and does not tell how long they have waited.
        </p>
        <ul class="counts">
          {rows.map(([state, count]) => (
            <li key={state}>
              <a href={of(state)}>{state}</a> <strong>{count}</strong>
            </li>
          ))}
        </ul>
      </>
    )
  }
  const most = Math.max(1, ...ages.states.flatMap((state) => Object.values(state.counts)))
  return (
    <>
      {ages.states.length === 0 ? (
        <p>None is under way.</p>
      ) : (
        <div class="wide" tabIndex={0} role="group" aria-label={`${saga}: states and ages`}>
          <table class="heat">
            <thead>
              <tr>
                <th scope="col">state</th>
                {BUCKETS.map((bucket) => (
                  <th key={bucket} scope="col" class="number">
                    {bucket.replace('<', '< ')}
                  </th>
                ))}
                <th scope="col" class="number">
                  usual
                </th>
              </tr>
            </thead>
            <tbody>
              {ages.states.map((row) => (
                <tr key={row.state}>
                  <th scope="row">
                    <a href={of(row.state)}>{row.state}</a>
                  </th>
                  {BUCKETS.map((bucket) => {
                    const count = row.counts[bucket] ?? 0
                    return (
                      <td
                        key={bucket}
                        class={`number heat-${count === 0 ? 0 : Math.ceil((count / most) * 4)}`}
                      >
                        {count > 0 ? (
                          <a href={of(row.state)}>{count}</a>
                        ) : (
                          <span class="quiet">·</span>
                        )}
                      </td>
                    )
                  })}
                  <td class="number quiet">
                    {row.p95Ms === null ? '–' : `< ${duration(row.p95Ms)}`}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <ul class="counts">
        {Object.entries(counts.byState)
          .filter(([state]) => !ages.states.some((row) => row.state === state))
          .map(([state, count]) => (
            <li key={state}>
              <a href={of(state)}>{state}</a> <strong>{count}</strong>
            </li>
          ))}
      </ul>
    </>
  )
}

function Card({ service, look }: { service: ServiceInfo; look: ServiceLook | Error | undefined }) {
  const { name, reachable, error, since, version } = service
  if (!reachable)
    return (
      <li class="card lost" data-service={name}>
        <h3>{name}</h3>
        <p>{error}</p>
        {since ? (
          <p>
            Not reached since <When at={since} />
          </p>
        ) : null}
      </li>
    )
  return (
    <li class="card" data-service={name}>
      <h3>
        {name} {version ? <span class="quiet">{version}</span> : null}
      </h3>
      {error !== null ? <PeerKey service={name} error={error} /> : null}
      {look instanceof Error ? <p class="says problem">{look.message}</p> : null}
      {look && !(look instanceof Error) ? <Facts name={name} look={look} /> : null}
    </li>
  )
}

function Facts({ name, look: { outbox, groups, endpoint } }: { name: string; look: ServiceLook }) {
  const due = outbox.pending - outbox.postponed
  return (
    <dl>
      <dt>Outbox</dt>
      <dd class={due > 0 && outbox.oldestAgeSeconds > SLOW_S ? 'bad' : ''}>
        {due > 0
          ? `${due}${outbox.atLeast ? ' or more' : ''} due, the oldest for ${duration(outbox.oldestAgeSeconds * 1000)}`
          : 'nothing due'}
        {outbox.scheduled > 0 ? `, ${outbox.scheduled} for later` : ''}
      </dd>
      <dt>Sends</dt>
      <dd class={outbox.leader ? '' : 'bad'}>
        {outbox.leader ? (
          <>
            {outbox.leader.application} <span class="quiet">since</span>{' '}
            <When at={outbox.leader.since} />
          </>
        ) : (
          'nobody'
        )}
      </dd>
      <dt>Takes</dt>
      <dd class={endpoint.status === 'paused' ? 'bad' : ''}>
        {endpoint.status === 'paused' ? `nothing: ${endpoint.reason}` : 'messages'}
      </dd>
      <dt>Dead letters</dt>
      <dd class={groups.total > 0 ? 'bad' : ''}>
        <a href={linkTo({ view: 'letters', service: name })}>
          {groups.total}
          {groups.atLeast ? ' or more' : ''}
        </a>
        {groups.total > 0 ? (
          <>
            {', '}the newest{' '}
            <When
              at={groups.groups
                .map(({ newest }) => newest)
                .toSorted()
                .at(-1)}
            />
          </>
        ) : null}
      </dd>
    </dl>
  )
}

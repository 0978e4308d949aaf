import { ask, Problem } from '../ask.ts'
import { Age, When } from '../parts/time.tsx'
import { Head, Loading, Says } from '../parts/says.tsx'
import { at, linkTo } from '../place.ts'
import { isReached, services } from '../services.ts'
import type { LetterRow, Page } from '../types.ts'
import { DETAIL_MS, useWatched } from '../watch.ts'

interface Trace {
  messageId: string
  contract?: string | null
  state: string
  at: string | null
  destination: string | null
  error: string | null
  attempts: number | null
  letterId: string | number | null
  dueAt?: string | null
}

interface Seen {
  service: string
  traces: Trace[]
  letters: LetterRow[]
  problem: Problem | undefined
}

/** What happened to it there, and then when. */
const STATES: Readonly<Record<string, string>> = {
  outbox: 'came into its outbox',
  putOff: 'was put off',
  broker: 'was given to the broker',
  handled: 'was handled',
  scheduled: 'was kept to be sent later',
  discarded: 'was given up by a person',
  deadLetter: 'became a dead letter'
}

/** One message, as every service knows it. */
export function Message() {
  const id = at('id')
  const names = services.value.filter(isReached).map(({ name }) => name)
  const seen = useWatched(
    `message ${id} ${names.join()}`,
    () => Promise.all(names.map((service) => lookAt(service, id))),
    DETAIL_MS
  )
  const [problem] = (seen.value ?? []).flatMap((one) => (one.problem ? [one.problem] : []))
  const letters = (seen.value ?? []).flatMap(({ service, letters: own }) =>
    own.map((letter) => ({ service, letter }))
  )
  const isUnknown = seen.value?.every(({ traces }) => traces.length === 0) && letters.length === 0
  return (
    <>
      <Head title={<span class="id">{id}</span>}>
        <Age of={seen} />
      </Head>
      {!seen.value ? <Loading what="the message in all services" /> : null}
      {isUnknown && !problem ? (
        <p>
          No service that was asked knows it: it is with the broker, or was handled and forgotten.
        </p>
      ) : null}
      <ul class="cards">
        {(seen.value ?? [])
          .filter(({ traces }) => traces.length > 0)
          .map(({ service, traces }) => (
            <li key={service} class="card">
              <h2>{service}</h2>
              {traces.map((trace, index) => (
                <div key={index} data-hop={trace.state}>
                  <p class={trace.state === 'deadLetter' ? 'bad' : ''}>
                    It {STATES[trace.state] ?? trace.state} <When at={trace.at} />
                    {trace.destination ? `, for ${trace.destination}` : ''}
                    {trace.attempts
                      ? `, after ${trace.attempts} ${trace.attempts === 1 ? 'try' : 'tries'}`
                      : ''}
                    .
                  </p>
                  {trace.error ? <p class="bad">{trace.error}</p> : null}
                  {trace.dueAt ? (
                    <p>
                      It is due <When at={trace.dueAt} />.
                    </p>
                  ) : null}
                </div>
              ))}
            </li>
          ))}
      </ul>
      {letters.map(({ service, letter }) => (
        <div key={`${service} ${letter.id}`} class="verdict problem">
          <p class="sentence">
            {service} could not handle it: {letter.exception}
          </p>
          <p class="reason">{letter.reason}</p>
          <p>
            <a href={linkTo({ view: 'letter', service, id: letter.id })}>Letter {letter.id}</a>
            {letter.correlationId ? (
              <>
                {' of '}
                <a href={linkTo({ view: 'search', q: letter.correlationId })} class="id">
                  {letter.correlationId}
                </a>
              </>
            ) : null}
          </p>
        </div>
      ))}
      <Says problem={problem} what="where a message is" />
    </>
  )
}

async function lookAt(service: string, id: string): Promise<Seen> {
  const [traced, found] = await Promise.all([
    ask<{ messages: Trace[] }>(
      service,
      `/ops/${service}/messages?ids=${encodeURIComponent(id)}`
    ).then(
      ({ messages }) => ({ traces: messages, problem: undefined }),
      (error: Problem) => ({ traces: [], problem: error })
    ),
    ask<Page<LetterRow>>(
      service,
      `/ops/${service}/dead-letters?messageId=${encodeURIComponent(id)}`
    ).then(
      ({ items }) => items,
      () => []
    )
  ])
  return { service, ...traced, letters: found }
}

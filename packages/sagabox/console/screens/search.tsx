import { ask } from '../ask.ts'
import { Head, Loading, SagaLink, State } from '../parts/says.tsx'
import { When } from '../parts/time.tsx'
import { at, linkTo } from '../place.ts'
import { isReached, sagas, services } from '../services.ts'
import type { LetterRow, Page, SagaRow } from '../types.ts'
import { OVERVIEW_MS, useWatched } from '../watch.ts'

interface Found {
  sagas: { service: string; saga: string; row: SagaRow }[]
  letters: { service: string; letter: LetterRow }[]
  /** Services that could not be asked. */
  missed: string[]
}

/** What has an id or a key of the business: sagas, dead letters, messages. */
export function Search() {
  const q = at('q').trim()
  const found = useWatched(
    q === '' ? null : `search ${q} ${sagas.value.length}`,
    () => searchFor(q),
    OVERVIEW_MS
  )
  const value = found.value
  return (
    <>
      <Head title={q === '' ? 'Search' : `Search: ${q}`} />
      {q === '' ? <p>Any id or key: of an order, a saga, a message.</p> : null}
      {q !== '' && !value ? <Loading what={q} /> : null}
      {value?.sagas.map(({ service, saga, row }) => (
        <p key={`${saga} ${row.sagaId}`} data-row>
          {saga} saga <SagaLink service={service} saga={saga} id={row.sagaId} text={row.key} />{' '}
          <State state={row.state} tone={row.stuckSince ? 'bad' : ''} /> moved{' '}
          <When at={row.updatedAt} />
        </p>
      ))}
      {value?.letters.map(({ service, letter }) => (
        <p key={`${service} ${letter.id}`} data-row>
          dead letter <a href={linkTo({ view: 'letter', service, id: letter.id })}>{letter.id}</a>{' '}
          of {service}: {letter.exception}{' '}
          <State state={letter.status} tone={letter.status === 'waiting' ? 'bad' : ''} />
        </p>
      ))}
      {value ? (
        <p>
          {value.sagas.length + value.letters.length === 0
            ? 'No saga and no dead letter has it. '
            : ''}
          <a href={linkTo({ view: 'message', id: q })}>Look for a message of this id</a>
        </p>
      ) : null}
      {value && value.missed.length > 0 ? (
        <p class="says problem">{value.missed.join(', ')} could not be asked.</p>
      ) : null}
    </>
  )
}

async function searchFor(q: string): Promise<Found> {
  const missed = new Set(services.value.filter((one) => !isReached(one)).map(({ name }) => name))
  const orNone = <T,>(service: string, asked: Promise<Page<T>>) =>
    asked.then(
      ({ items }) => items,
      (error: { status?: number }) => {
        // What cannot be a key there is none.
        if (error.status !== 400 && error.status !== 404) missed.add(service)
        return []
      }
    )
  const id = encodeURIComponent(q)
  const [ownSagas, letters] = await Promise.all([
    Promise.all(
      sagas.value.map(async ({ service, saga }) => {
        const byKey = await orNone(service, ask<Page<SagaRow>>(service, `/sagas/${saga}?key=${id}`))
        if (byKey.length > 0) return byKey.map((row) => ({ service, saga, row }))
        const byId = await ask<SagaRow>(service, `/sagas/${saga}/${id}?limit=1`).then(
          (row) => [row],
          () => []
        )
        return byId.map((row) => ({ service, saga, row }))
      })
    ),
    Promise.all(
      services.value.filter(isReached).map(async ({ name: service }) => {
        const path = `/ops/${service}/dead-letters`
        const rows = await Promise.all([
          orNone(service, ask<Page<LetterRow>>(service, `${path}?correlationId=${id}`)),
          orNone(service, ask<Page<LetterRow>>(service, `${path}?messageId=${id}`))
        ])
        const unique = new Map(rows.flat().map((letter) => [letter.id, letter]))
        return [...unique.values()].map((letter) => ({ service, letter }))
      })
    )
  ])
  return { sagas: ownSagas.flat(), letters: letters.flat(), missed: [...missed] }
}

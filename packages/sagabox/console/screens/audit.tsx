import { ask, pathTo, search } from '../ask.ts'
import { Age, Clock } from '../parts/time.tsx'
import { PerService } from '../parts/per-service.tsx'
import { Head, Loading, Says, State } from '../parts/says.tsx'
import { at, go, here } from '../place.ts'
import type { AuditRow, Page } from '../types.ts'
import { LIST_MS, useWatched } from '../watch.ts'

/** Who did what, why, and with what result. */
export function Audit() {
  return <PerService title="Audit" show={(service) => <Of service={service} />} />
}

function Of({ service }: { service: string }) {
  const filter = { actor: at('actor'), action: at('action'), target: at('target') }
  const path = `/ops/${service}/audit`
  const query = search({ ...filter, cursor: at('cursor'), limit: 50 })
  const rows = useWatched(
    `${service}${path}${query}`,
    () => ask<Page<AuditRow>>(service, `${path}${query}`),
    LIST_MS
  )
  return (
    <>
      <Head title={`Audit of ${service}`}>
        <Age of={rows} />
      </Head>
      <form class="filters" key={query} onSubmit={(event) => event.preventDefault()}>
        {(['actor', 'action', 'target'] as const).map((name) => (
          <span key={name}>
            <label for={name}>{LABELS[name]}</label>
            <input
              id={name}
              defaultValue={filter[name]}
              onChange={(event) =>
                go(here({ [name]: event.currentTarget.value.trim(), cursor: null }))
              }
            />
          </span>
        ))}
        <a
          href={pathTo(service, `${path}/export${search(filter)}`)}
          download={`audit-${service}.ndjson`}
        >
          Export
        </a>
      </form>
      <Says problem={rows.problem} what="the audit" />
      {!rows.value && !rows.problem ? <Loading what="what was done" /> : null}
      {rows.value?.items.length === 0 ? <p>Nothing was done or refused.</p> : null}
      {rows.value && rows.value.items.length > 0 ? (
        <div class="wide" tabIndex={0} role="group" aria-label="Audit">
          <table class="rows">
            <thead>
              <tr>
                <th scope="col">when</th>
                <th scope="col">who</th>
                <th scope="col">what</th>
                <th scope="col">on</th>
                <th scope="col">why</th>
                <th scope="col">result</th>
              </tr>
            </thead>
            <tbody>
              {rows.value.items.map((row) => (
                <tr key={row.id}>
                  <td>
                    <Clock at={row.at} />
                  </td>
                  <td title={row.roles.join(', ')}>{row.actor}</td>
                  <td>{row.action}</td>
                  <td>{row.target}</td>
                  <td class="reason">{row.reason ?? '–'}</td>
                  <td>
                    <State
                      state={`${row.outcome} ${row.status}`}
                      tone={row.outcome === 'done' ? '' : 'bad'}
                    />
                    {row.times > 1 ? ` ${row.times} times` : ''}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : null}
      <p class="pages">
        {at('cursor') ? <a href={here({ cursor: null })}>Newest</a> : null}
        {rows.value?.nextCursor ? (
          <a href={here({ cursor: rows.value.nextCursor })}>Older</a>
        ) : null}
      </p>
    </>
  )
}

const LABELS = { actor: 'Who', action: 'What', target: 'On' }

import { ask } from '../ask.ts'
import { Diagram } from '../parts/diagram.tsx'
import { Head, Loading, Says, Tabs, Text } from '../parts/says.tsx'
import { at, here } from '../place.ts'
import { sagas } from '../services.ts'
import type { Definition } from '../types.ts'
import { OVERVIEW_MS, useWatched } from '../watch.ts'

/** Messages: who sends, who takes, what is in them, which states of the saga they move. */
export function Contracts() {
  const found = sagas.value
  const chosen = found.find(({ saga }) => saga === at('saga')) ?? found[0]
  if (!chosen) return <Head title="Contracts" />
  return (
    <>
      <Tabs name="saga" of={found.map(({ saga }) => saga)} chosen={chosen.saga} />
      <Of {...chosen} />
    </>
  )
}

function Of({ service, saga }: { service: string; saga: string }) {
  const definition = useWatched(
    `${service}/${saga}/definition`,
    () => ask<Definition>(service, `/sagas/${saga}/definition`),
    OVERVIEW_MS
  )
  const { value } = definition
  const name = at('contract')
  const chosen = value?.contracts.find((contract) => contract.name === name)
  return (
    <>
      <Head title={`Contracts of ${saga}`} />
      <Says problem={definition.problem} what="its contracts" />
      {!value && !definition.problem ? <Loading what="contracts" /> : null}
      {value ? (
        <>
          <div class="wide" tabIndex={0} role="group" aria-label="Contracts">
            <table class="rows">
              <thead>
                <tr>
                  <th scope="col">message</th>
                  <th scope="col">kind</th>
                  <th scope="col">sent by</th>
                  <th scope="col">taken by</th>
                  <th scope="col">moves the saga in</th>
                </tr>
              </thead>
              <tbody>
                {value.contracts.map((contract) => (
                  <tr key={contract.urn} data-row class={contract === chosen ? 'chosen' : ''}>
                    <td>
                      <a href={here({ contract: contract.name })}>{contract.name}</a>
                    </td>
                    <td>{contract.kind}</td>
                    <td data-label="sent by">
                      {[contract.sentBy ?? contract.owner].flat().join(', ')}
                    </td>
                    <td data-label="taken by">{contract.takenBy.join(', ') || 'nobody'}</td>
                    <td data-label="moves it in">
                      {contract.states.join(', ') || <span class="quiet">no state</span>}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          {chosen ? (
            <section aria-labelledby="contract">
              <h2 id="contract">{chosen.name}</h2>
              <p class="id">{chosen.urn}</p>
              <Text label="Schema" text={JSON.stringify(chosen.schema, undefined, 1)} />
            </section>
          ) : null}
          <section aria-labelledby="machine">
            <h2 id="machine">The machine, version {value.version}</h2>
            <Diagram
              definition={value}
              path={[]}
              current=""
              reachable={value.states.map(({ path }) => path)}
            />
          </section>
        </>
      ) : null}
    </>
  )
}

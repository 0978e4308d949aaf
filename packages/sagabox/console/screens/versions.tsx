import { useRef, useState } from 'preact/hooks'
import { ask, search } from '../ask.ts'
import { Age } from '../parts/time.tsx'
import { Head, Loading, SagaLink, Says, Tabs } from '../parts/says.tsx'
import { at } from '../place.ts'
import { sagas } from '../services.ts'
import type { Counts, Page, Replay, SagaRow } from '../types.ts'
import { OVERVIEW_MS, useWatched } from '../watch.ts'

/** Of each state, so many are looked at, the newest first. */
const LOOKED_AT = 500

/** Instances by the version of their machine, and whether today's machine agrees with their histories. */
export function Versions() {
  const found = sagas.value
  const chosen = found.find(({ saga }) => saga === at('saga')) ?? found[0]
  if (!chosen) return <Head title="Versions" />
  return (
    <>
      <Tabs name="saga" of={found.map(({ saga }) => saga)} chosen={chosen.saga} />
      <Of key={chosen.saga} {...chosen} />
    </>
  )
}

interface Census {
  version: number
  rows: SagaRow[]
  isWhole: boolean
}

function Of({ service, saga }: { service: string; saga: string }) {
  const census = useWatched(
    `versions ${service}/${saga}`,
    async (): Promise<Census> => {
      const [{ items }, { byState }] = await Promise.all([
        ask<{ items: { name: string; version: number }[] }>(service, '/sagas/definitions'),
        ask<Counts>(service, `/sagas/${saga}/summary`)
      ])
      const read = await Promise.all(
        Object.keys(byState)
          .filter((state) => byState[state]! > 0)
          .map((state) => readSome(service, saga, state))
      )
      return {
        version: items.find(({ name }) => name === saga)?.version ?? 0,
        rows: read.flatMap(({ rows }) => rows),
        isWhole: read.every(({ isWhole }) => isWhole)
      }
    },
    OVERVIEW_MS
  )
  const { value } = census
  const versions = [...new Set(value?.rows.map(({ machineVersion }) => machineVersion))].toSorted(
    (a, b) => b - a
  )
  const states = [...new Set(value?.rows.map(({ state }) => state))].toSorted()
  return (
    <>
      <Head title={`Versions of ${saga}`}>
        <Age of={census} />
      </Head>
      <Says problem={census.problem} what="the versions" />
      {!value && !census.problem ? <Loading what="instances" /> : null}
      {value ? (
        <>
          <p>
            Today’s machine is version {value.version}.{' '}
            {value.isWhole ? '' : `Of each state the newest ${LOOKED_AT} are counted.`}
          </p>
          <div class="wide" tabIndex={0} role="group" aria-label="Versions">
            <table class="rows">
              <thead>
                <tr>
                  <th scope="col">state</th>
                  {versions.map((version) => (
                    <th key={version} scope="col" class="number">
                      version {version}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {states.map((state) => (
                  <tr key={state}>
                    <th scope="row">{state}</th>
                    {versions.map((version) => (
                      <td key={version} class="number">
                        {value.rows.filter(
                          (row) => row.state === state && row.machineVersion === version
                        ).length || '·'}
                      </td>
                    ))}
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
          <Check service={service} saga={saga} rows={value.rows} />
        </>
      ) : null}
    </>
  )
}

async function readSome(service: string, saga: string, state: string) {
  const rows: SagaRow[] = []
  let cursor: string | null = null
  do {
    const page: Page<SagaRow> = await ask(
      service,
      `/sagas/${saga}${search({ state, cursor, limit: 100 })}`
    )
    // A state stands for all inside it.
    rows.push(...page.items.filter((row) => row.state === state))
    cursor = page.nextCursor
  } while (cursor !== null && rows.length < LOOKED_AT)
  return { rows, isWhole: cursor === null }
}

/** Replays instances one after another: what would go wrong is known before a rollout goes on. */
function Check({
  service,
  saga,
  rows
}: {
  service: string
  saga: string
  rows: readonly SagaRow[]
}) {
  const [looked, setLooked] = useState(0)
  const [differ, setDiffer] = useState<{ row: SagaRow; text: string }[]>([])
  const [isRunning, setRunning] = useState(false)
  const isStopped = useRef(false)
  const run = async () => {
    isStopped.current = false
    setRunning(true)
    setLooked(0)
    setDiffer([])
    for (const [index, row] of rows.entries()) {
      if (isStopped.current) break
      const text = await ask<Replay>(service, `/sagas/${saga}/${row.sagaId}/replay`).then(
        ({ consistent, firstDifference }) =>
          consistent ? '' : `step ${firstDifference?.sequence} differs in ${firstDifference?.what}`,
        (error: Error) => error.message
      )
      if (text !== '') setDiffer((before) => [...before, { row, text }])
      setLooked(index + 1)
    }
    setRunning(false)
  }
  return (
    <section aria-labelledby="check">
      <h2 id="check">Does today’s machine agree with their histories?</h2>
      <p class="buttons">
        {isRunning ? (
          <button type="button" onClick={() => (isStopped.current = true)}>
            Stop
          </button>
        ) : (
          <button type="button" class="main" onClick={() => void run()}>
            Replay {rows.length}
          </button>
        )}
      </p>
      {looked > 0 ? (
        <p role="status" class={differ.length > 0 ? 'bad' : ''}>
          {looked} of {rows.length} replayed;{' '}
          {differ.length === 0 ? 'all as they were recorded' : `${differ.length} differ`}.
        </p>
      ) : null}
      <ul>
        {differ.map(({ row, text }) => (
          <li key={row.sagaId}>
            <SagaLink service={service} saga={saga} id={row.sagaId} text={row.key} />: {text}
          </li>
        ))}
      </ul>
    </section>
  )
}

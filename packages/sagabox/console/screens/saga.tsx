import { useState } from 'preact/hooks'
import { ask, type Problem } from '../ask.ts'
import { duration, fromNow, now } from '../clock.ts'
import { confirm, say } from '../parts/dialog.tsx'
import { Diagram } from '../parts/diagram.tsx'
import { Age, Clock, When } from '../parts/time.tsx'
import { Head, Loading, Says, State, Text } from '../parts/says.tsx'
import { Timeline } from '../parts/timeline.tsx'
import { parted } from '../parted.ts'
import { at, go, here, linkTo } from '../place.ts'
import { may } from '../services.ts'
import { testOf } from '../test-of.ts'
import type {
  Definition,
  Explanation,
  Messages,
  Page,
  Path,
  PathStep,
  Replay,
  SagaDetail,
  SagaRow,
  Sent
} from '../types.ts'
import { DETAIL_MS, LIST_MS, useWatched, type Watched } from '../watch.ts'

/** One instance: why it does not move, how it came there, what can still come. */
export function Saga() {
  const [service, saga, id] = [at('service'), at('saga'), at('id')]
  const own = `/sagas/${saga}/${encodeURIComponent(id)}`
  const name = `${service}${own}`
  const detail = useWatched(name, () => ask<SagaDetail>(service, own), DETAIL_MS)
  const why = useWatched(
    `${name}/explanation`,
    () => ask<Explanation>(service, `${own}/explanation`),
    DETAIL_MS
  )
  const path = useWatched(`${name}/path`, () => ask<Path>(service, `${own}/path`), DETAIL_MS)
  const messages = useWatched(
    `${name}/messages`,
    () => ask<Messages>(service, `${own}/messages`),
    LIST_MS
  )
  const definition = useWatched(
    `${service}/${saga}/definition`,
    () => ask<Definition>(service, `/sagas/${saga}/definition`),
    60_000
  )
  const one = detail.value
  if (!one)
    return (
      <>
        <Head title={id} />
        {detail.problem ? (
          <Says problem={detail.problem} what={`the ${saga} saga`} />
        ) : (
          <Loading what={`${saga} ${id}`} />
        )}
      </>
    )
  const steps = path.value?.steps ?? stepsOf(one)
  const refresh = () =>
    void Promise.all([detail, why, path, messages].map((watched) => watched.refresh()))
  return (
    <>
      <Head title={<span class="id">{one.key ?? one.sagaId}</span>}>
        <State state={one.state} tone={one.stuckSince ? 'bad' : 'now'} />
        <Age of={detail} />
      </Head>
      <p class="quiet">
        <a href={linkTo({ view: 'sagas', service, saga })}>{saga}</a> saga of the {service} service;{' '}
        {one.key ? <span class="id">{one.sagaId}, </span> : null}
        machine version {one.machineVersion}; began <When at={one.createdAt} />, moved last{' '}
        <When at={one.updatedAt} />
        <Usual detail={one} path={path.value} />
      </p>
      <Sentence detail={one} why={why} service={service} saga={saga} />
      <Actions
        detail={one}
        steps={steps}
        service={service}
        saga={saga}
        own={own}
        refresh={refresh}
      />
      <div class="halves">
        <section aria-labelledby="path">
          <h2 id="path">Where it is, and what can still come</h2>
          {definition.value ? (
            <Diagram
              definition={definition.value}
              path={statesOf(steps)}
              current={one.state}
              reachable={path.value?.reachable ?? []}
              countdown={countdownOf(path.value)}
            />
          ) : (
            <Says problem={definition.problem} what="its diagram" />
          )}
        </section>
        <section aria-labelledby="waits">
          <h2 id="waits">What it waits for</h2>
          <Waits detail={one} path={path.value} />
        </section>
      </div>
      <Steps steps={steps} detail={one} pathProblem={path.problem} />
      <section aria-labelledby="messages">
        <h2 id="messages">Messages, over all services</h2>
        {messages.value ? (
          <Timeline of={messages.value} />
        ) : (
          <Says problem={messages.problem} what="its messages" />
        )}
      </section>
      <Verdict key={id} service={service} own={own} />
    </>
  )
}

/** The state that each step led to, the first being where it began. */
function statesOf(steps: readonly PathStep[]): string[] {
  return steps
    .map(({ to }) => to)
    .filter((state, index, all) => index === 0 || state !== all[index - 1])
}

/** Of what the history alone tells. */
function stepsOf({ history, waitingFor }: SagaDetail): PathStep[] {
  return history.map((step, index) => {
    const next = history[index + 1]
    const until = next ? Date.parse(next.at) : waitingFor === null ? undefined : now.value
    return {
      ...step,
      msInState: until === undefined ? null : until - Date.parse(step.at),
      changed: []
    }
  })
}

function countdownOf(path: Path | undefined): { to: string; text: string } | undefined {
  if (!path?.timer) return undefined
  const left = Date.parse(path.timer.at) - now.value
  return {
    to: path.timer.to,
    text: left < 1000 ? 'a moment' : duration(Math.floor(left / 1000) * 1000)
  }
}

/** How unusual it is that it is here for so long. */
function Usual({ detail, path }: { detail: SagaDetail; path: Path | undefined }) {
  const usual = path?.usual[detail.state]
  if (!usual || detail.waitingFor === null || usual.of === 0) return null
  const ms = now.value - Date.parse(detail.updatedAt)
  const isUnusual = ms > usual.p95Ms
  return (
    <span class={isUnusual ? 'bad' : ''}>
      {'; '}of the last {usual.of}, half left this state within {duration(usual.p50Ms)} and 95 %
      within {duration(usual.p95Ms)}
    </span>
  )
}

function Sentence({
  detail,
  why,
  service,
  saga
}: {
  detail: SagaDetail
  why: Watched<Explanation>
  service: string
  saga: string
}) {
  if (!why.value) {
    if (!why.problem) return <Loading what="why it does not move" />
    const { waitingFor } = detail
    return (
      <div
        class={`verdict ${detail.stuckSince || waitingFor?.lastError ? 'problem' : waitingFor === null ? 'ok' : 'waiting'}`}
      >
        <p class="sentence">
          {waitingFor === null ? (
            `It has ended in ${detail.state}.`
          ) : (
            <>
              It waits for {waitingFor.events.join(' or ') || 'nothing'} since{' '}
              <When at={waitingFor.since} />
              {waitingFor.lastError ? `; the last error: ${waitingFor.lastError.message}` : '.'}
            </>
          )}
        </p>
        <Says problem={why.problem} what="why it does not move" />
      </div>
    )
  }
  const { sentence, severity, evidence, suggestions, others, next } = why.value
  const [first, rest] = parted(sentence)
  return (
    <div class={`verdict ${severity}`} data-finding={why.value.finding}>
      <p class="sentence">{first}</p>
      {rest ? <p>{rest}</p> : null}
      {evidence.length > 0 ? (
        <ul>
          {evidence.map(({ text, service: of, messageId, letterId }, index) => (
            <li key={index}>
              {text}{' '}
              {letterId != null ? (
                <a href={linkTo({ view: 'letter', service: of ?? service, id: letterId })}>
                  letter {letterId}
                </a>
              ) : messageId ? (
                <a href={linkTo({ view: 'message', id: messageId })}>message</a>
              ) : null}
            </li>
          ))}
        </ul>
      ) : null}
      {suggestions.length > 0 ? (
        <p class="suggestions">
          <strong>What to do: </strong>
          {suggestions.map(({ text, action, target }, index) => (
            <span key={text}>
              {index > 0 ? '; or ' : ''}
              {action === 'letter' && linkOf(target) ? <a href={linkOf(target)}>{text}</a> : text}
            </span>
          ))}
          .
        </p>
      ) : null}
      {others && others.count > 0 && !sentence.includes(String(others.count)) ? (
        <p>
          <a href={linkTo({ view: 'sagas', service, saga, state: others.state })}>
            {others.count} {others.count === 1 ? 'other waits' : 'others wait'}
          </a>{' '}
          in {others.state}.
        </p>
      ) : null}
      {next && !sentence.includes(next.to) ? (
        <p>
          If nothing comes: {next.at ? <When at={next.at} /> : 'later'} → {next.to}
          {next.sends.length > 0 ? `, which sends ${next.sends.join(', ')}` : ''}.
        </p>
      ) : null}
    </div>
  )
}

interface Acting {
  detail: SagaDetail
  steps: readonly PathStep[]
  service: string
  saga: string
  own: string
  refresh(): void
}

function Actions({ detail, steps, service, saga, own, refresh }: Acting) {
  const { waitingFor } = detail
  const name = detail.key ?? detail.sagaId
  const retry = (then?: () => void) =>
    confirm({
      title: `Retry ${name}`,
      tells: (
        <p>
          {waitingFor?.commands.join(' and ')}{' '}
          {waitingFor && waitingFor.commands.length > 1 ? 'are' : 'is'} sent once more, under a new
          id. Whoever has done it already answers and does nothing twice.
        </p>
      ),
      verb: 'Retry',
      async act(why) {
        const { sent } = await ask<{ sent: Sent[] }>(
          service,
          `${own}/retry?${new URLSearchParams({ why }).toString()}`,
          { method: 'POST' }
        )
        return `Sent ${sent.map(({ type }) => type).join(', ')}.`
      },
      after: then ?? refresh
    })
  const next = async () => {
    const { items } = await ask<Page<SagaRow>>(service, `/sagas/${saga}?stuck=true&limit=2`)
    const other = items.find(({ sagaId }) => sagaId !== detail.sagaId)
    if (other) go(linkTo({ view: 'saga', service, saga, id: other.sagaId }))
    else refresh()
  }
  const cancel = () =>
    confirm({
      title: `Cancel ${name}`,
      tells: (
        <p>
          It takes its way to cancellation; what was done for it is undone. This cannot be taken
          back.
        </p>
      ),
      verb: 'Cancel it',
      isHarmful: true,
      async act(reason) {
        const { state } = await ask<{ state: string }>(service, `${own}/cancel`, {
          method: 'POST',
          body: { reason }
        })
        return `It is cancelled, and now in ${state}.`
      },
      after: refresh
    })
  const canRetry = waitingFor !== null && waitingFor.commands.length > 0
  return (
    <p class="buttons">
      {may('saga:retry') ? (
        <>
          <button
            type="button"
            class="main"
            data-key="r"
            disabled={!canRetry}
            title={canRetry ? 'Key: r' : 'It waits for the answer to no command'}
            onClick={() => retry()}
          >
            Retry …
          </button>
          <button
            type="button"
            class="hidden-visually"
            data-key="n"
            disabled={!canRetry}
            tabIndex={-1}
            onClick={() => retry(() => void next())}
          >
            Retry, then the next that is stuck
          </button>
        </>
      ) : null}
      {may('saga:cancel') && waitingFor !== null ? (
        <button type="button" class="harmful" onClick={cancel}>
          Cancel …
        </button>
      ) : null}
      <button type="button" onClick={() => void copy(testOf(saga, detail, steps))}>
        Copy as test
      </button>
      <button
        type="button"
        onClick={() =>
          download(
            `${saga}-${detail.sagaId}.json`,
            JSON.stringify({ ...detail, steps }, undefined, 1)
          )
        }
      >
        Download the recording
      </button>
    </p>
  )
}

async function copy(text: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text)
    say('Copied: a test that tells this story.')
  } catch {
    // Without HTTPS browsers keep the clipboard to themselves.
    download('story-test.ts', text)
  }
}

function download(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }))
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  URL.revokeObjectURL(url)
}

function Waits({
  detail: { waitingFor, timers, deferred, accepts },
  path
}: {
  detail: SagaDetail
  path: Path | undefined
}) {
  return (
    <dl>
      <dt>Waits for</dt>
      <dd>
        {waitingFor === null
          ? 'nothing: it has ended'
          : waitingFor.events.join(', ') || 'no message'}
      </dd>
      {waitingFor ? (
        <>
          <dt>Since</dt>
          <dd>
            <When at={waitingFor.since} />
            {askedOften(waitingFor.attempts)}
            {waitingFor.commands.length > 0 ? `: ${waitingFor.commands.join(', ')}` : ''}
          </dd>
          {waitingFor.lastError ? (
            <>
              <dt>Last error</dt>
              <dd class="bad">
                {waitingFor.lastError.message} (<When at={waitingFor.lastError.at} />)
              </dd>
            </>
          ) : null}
        </>
      ) : null}
      <dt>Timers</dt>
      <dd>
        {timers.length === 0
          ? 'none'
          : timers.map((timer) => (
              <div key={timer.id}>
                {timer.event}: <When at={timer.dueAt} />{' '}
                {path?.timer?.at === timer.dueAt ? `→ ${path.timer.to}` : ''}
              </div>
            ))}
      </dd>
      {deferred.length > 0 ? (
        <>
          <dt>Came too early</dt>
          <dd>
            {deferred.map((one, index) => (
              <div key={index}>
                {one.event} {one.since ? <When at={one.since} /> : null}
              </div>
            ))}
          </dd>
        </>
      ) : null}
      <dt>Would take</dt>
      <dd>{accepts.join(', ') || 'nothing'}</dd>
    </dl>
  )
}

/** Step by step: what came, where it led, what was sent, and how the context changed. */
function Steps({
  steps,
  detail,
  pathProblem
}: {
  steps: readonly PathStep[]
  detail: SagaDetail
  pathProblem: Problem | undefined
}) {
  const last = steps.at(-1)
  const asked = Number(at('step'))
  const step = steps.find(({ sequence }) => sequence === asked) ?? last
  if (!step || !last) return null
  const index = steps.indexOf(step)
  const chooseStep = (to: PathStep) => go(here({ step: to === last ? null : to.sequence }), true)
  const context = step.context ?? (step === last ? detail.context : undefined)
  return (
    <section aria-labelledby="steps">
      <h2 id="steps">Steps</h2>
      <div class="halves">
        <div class="wide" tabIndex={0} role="group" aria-label="Steps">
          <table class="rows">
            <thead>
              <tr>
                <th scope="col" class="number">
                  #
                </th>
                <th scope="col">came</th>
                <th scope="col">led to</th>
                <th scope="col" class="number">
                  stayed
                </th>
                <th scope="col">sent</th>
              </tr>
            </thead>
            <tbody>
              {steps.map((one) => (
                <tr key={one.sequence} class={one === step ? 'chosen' : ''}>
                  <td class="number">
                    <a
                      href={here({ step: one === last ? null : one.sequence })}
                      aria-label={`Step ${one.sequence}`}
                      aria-current={one === step ? 'step' : undefined}
                    >
                      {one.sequence}
                    </a>
                  </td>
                  <td>
                    {one.event}
                    {one.note ? <div class="quiet">{one.note}</div> : null}
                  </td>
                  <td>{one.to === one.from ? <span class="quiet">stays</span> : one.to}</td>
                  <td class="number" title={new Date(one.at).toISOString()}>
                    {one.msInState === null ? 'end' : duration(one.msInState)}
                  </td>
                  <td>
                    {one.sent
                      .map((sent) => (typeof sent === 'string' ? sent : sent.type))
                      .join(', ')}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        <div>
          <label for="slider">
            Step {index + 1} of {steps.length}: {step.event}{' '}
            <span class="quiet">
              <Clock at={step.at} />
            </span>
          </label>
          <input
            id="slider"
            type="range"
            min={0}
            max={Math.max(0, steps.length - 1)}
            value={index}
            onInput={(event) => chooseStep(steps[Number(event.currentTarget.value)]!)}
          />
          <Changes step={step} />
          {context ? (
            <Text label="Context" text={JSON.stringify(context, undefined, 1)} />
          ) : (
            <Says problem={pathProblem} what="the context at earlier steps" />
          )}
        </div>
      </div>
    </section>
  )
}

function Changes({ step: { changed } }: { step: PathStep }) {
  if (changed.length === 0) return null
  return (
    <table class="changes">
      <thead>
        <tr>
          <th scope="col">what changed</th>
          <th scope="col">before</th>
          <th scope="col">after</th>
        </tr>
      </thead>
      <tbody>
        {changed.map(({ path, before, after }) => (
          <tr key={path}>
            <th scope="row">{path}</th>
            <td>{shown(before)}</td>
            <td>{shown(after)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function shown(value: unknown) {
  if (value === undefined) return <span class="quiet">absent</span>
  const text = JSON.stringify(value)
  return <code>{text.length > 300 ? `${text.slice(0, 300)}…` : text}</code>
}

/** Whether today's machine would have come to the same. */
function Verdict({ service, own }: { service: string; own: string }) {
  const [isAsked, setAsked] = useState(false)
  const replay = useWatched(
    isAsked ? `${service}${own}/replay` : null,
    () => ask<Replay>(service, `${own}/replay`),
    60_000
  )
  return (
    <section aria-labelledby="replay">
      <h2 id="replay">Replay</h2>
      {!isAsked ? (
        <button type="button" onClick={() => setAsked(true)}>
          Fold its history through today’s machine
        </button>
      ) : null}
      <Says problem={replay.problem} what="the replay" />
      {replay.value ? (
        replay.value.consistent ? (
          <p>
            {replay.value.steps} steps replay as they were recorded, to {replay.value.state}.
          </p>
        ) : (
          <>
            <p class="bad">
              Step {replay.value.firstDifference?.sequence} differs in{' '}
              {replay.value.firstDifference?.what}.
            </p>
            <Text
              label="Recorded and replayed"
              text={JSON.stringify(replay.value.firstDifference, undefined, 1)}
            />
          </>
        )
      ) : null}
      {replay.value ? <p class="quiet">Looked at {fromNow(replay.at ?? 0, now.value)}.</p> : null}
    </section>
  )
}

function askedOften(attempts: number): string {
  return attempts === 0 ? '' : attempts === 1 ? ', asked once' : `, asked ${attempts} times`
}

/** Of a letter's path in the API the place on this page. */
function linkOf(target: unknown): string | undefined {
  const [, service, id] = /^\/ops\/([a-z0-9-]+)\/dead-letters\/(\d+)/.exec(String(target)) ?? []
  return service && id ? linkTo({ view: 'letter', service, id }) : undefined
}

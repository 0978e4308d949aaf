import { useState } from 'preact/hooks'
import { ask, pathTo, search } from '../ask.ts'
import { confirm } from '../parts/dialog.tsx'
import { Age, Clock, When } from '../parts/time.tsx'
import { Head, Loading, Says, State, Text } from '../parts/says.tsx'
import { at, go, linkTo } from '../place.ts'
import { may } from '../services.ts'
import type { Letter as Whole, LetterRow, Page } from '../types.ts'
import { DETAIL_MS, useWatched } from '../watch.ts'

/** One dead letter: why, what is in it, and the ways on. */
export function Letter() {
  const [service, id] = [at('service'), at('id')]
  const path = `/ops/${service}/dead-letters/${encodeURIComponent(id)}`
  const letter = useWatched(`${service}${path}`, () => ask<Whole>(service, path), DETAIL_MS)
  const one = letter.value
  if (!one)
    return (
      <>
        <Head title={`Letter ${id}`} />
        {letter.problem ? (
          <Says problem={letter.problem} what="the letter" />
        ) : (
          <Loading what="the letter" />
        )}
      </>
    )
  const body = bodyOf(one)
  return (
    <>
      <Head title={`Letter ${id} of ${service}`}>
        <State state={one.status} tone={one.status === 'waiting' ? 'bad' : ''} />
        <Age of={letter} />
      </Head>
      <div
        class={`verdict ${one.status === 'waiting' ? 'problem' : one.status === 'retrying' ? 'waiting' : 'ok'}`}
      >
        <p class="sentence">
          {one.endpoint} could not handle {one.type ?? 'a message that cannot be read'}:{' '}
          {one.exception}
        </p>
        <p class="reason">{one.reason}</p>
        <p>
          Seen {one.seen === 1 ? 'once' : `${one.seen} times`}, last <When at={one.lastSeenAt} />,
          first <When at={one.firstSeenAt} />
          {one.retryingSince ? (
            <>
              ; sent back <When at={one.retryingSince} />, no outcome yet
            </>
          ) : null}
          .
        </p>
      </div>
      <Actions
        key={id}
        letter={one}
        service={service}
        path={path}
        body={body}
        refresh={() => void letter.refresh()}
      />
      <dl>
        <dt>Message</dt>
        <dd>
          {one.messageId ? (
            <a class="id" href={linkTo({ view: 'message', id: one.messageId })}>
              {one.messageId}
            </a>
          ) : (
            'has no id'
          )}
        </dd>
        <dt>Belongs to</dt>
        <dd>
          {one.correlationId ? (
            <a class="id" href={linkTo({ view: 'search', q: one.correlationId })}>
              {one.correlationId}
            </a>
          ) : (
            'nothing known'
          )}
        </dd>
        <dt>Others</dt>
        <dd>
          <a
            href={linkTo({
              view: 'letters',
              service,
              status: one.status,
              exception: one.exception,
              type: one.type,
              kind: one.kind
            })}
          >
            with the same cause
          </a>
        </dd>
      </dl>
      <div class="halves">
        <section aria-labelledby="body">
          <h2 id="body">What is in it</h2>
          <p class="quiet">
            {one.contentType ?? 'no content type'}, {one.bytes.toLocaleString()} bytes
            {one.payloadEncoding === 'base64' ? '; not text, shown as base64' : ''}.{' '}
            {may('payload:read') ? (
              <a href={pathTo(service, `${path}/payload`)} download={`dead-letter-${id}`}>
                Download all of it
              </a>
            ) : null}
          </p>
          <Text label="Payload" text={body.text} />
          <h3>Headers</h3>
          <Text label="Headers" text={JSON.stringify(one.headers, undefined, 1)} />
        </section>
        <section aria-labelledby="tries">
          <h2 id="tries">Tries</h2>
          <ol>
            {one.attempts.map(({ at: time, error }, index) => (
              <li key={index}>
                <Clock at={time} />
                <div class="reason">{error}</div>
              </li>
            ))}
          </ol>
          {one.attemptsLeftOut > 0 ? (
            <p class="quiet">{one.attemptsLeftOut} in between were not kept.</p>
          ) : null}
          {one.stack ? (
            <>
              <h3>Stack</h3>
              <Text label="Stack" text={one.stack} />
            </>
          ) : null}
        </section>
      </div>
    </>
  )
}

interface Body {
  text: string
  /** What the message says, where it can be read whole. */
  value: unknown
}

/** Decoded and indented, where it is JSON; as it is otherwise. */
function bodyOf({ payload, payloadEncoding }: Whole): Body {
  if (payloadEncoding !== 'utf8') return { text: payload, value: undefined }
  try {
    const whole = JSON.parse(payload) as { message?: unknown; messageType?: unknown } | null
    const value = whole && typeof whole === 'object' && whole.messageType ? whole.message : whole
    return { text: JSON.stringify(whole, undefined, 1), value }
  } catch {
    return { text: payload, value: undefined }
  }
}

interface Acting {
  letter: Whole
  service: string
  path: string
  body: Body
  refresh(): void
}

function Actions({ letter, service, path, body, refresh }: Acting) {
  const [edited, setEdited] = useState<string>()
  const { id, status } = letter
  const name = `letter ${id} of ${service}`
  const retry = (then: () => void) =>
    confirm({
      title: `Retry ${name}`,
      tells: (
        <p>
          It goes back to {letter.endpoint} under its message id. Whoever has handled it already
          does not handle it again.
        </p>
      ),
      verb: 'Retry',
      async act(why) {
        const { warning } = await ask<{ warning?: string }>(
          service,
          `${path}/retry?${new URLSearchParams({ why }).toString()}`,
          { method: 'POST' }
        )
        return `Letter ${id} is sent back.${warning ? ` ${warning}.` : ''}`
      },
      after: then
    })
  const next = async () => {
    const { exception, type, kind } = letter
    const query = search({ exception, type, kind, status: 'waiting', limit: 2 })
    const { items } = await ask<Page<LetterRow>>(service, `/ops/${service}/dead-letters${query}`)
    const other = items.find((one) => one.id !== id)
    go(
      other
        ? linkTo({ view: 'letter', service, id: other.id })
        : linkTo({ view: 'letters', service })
    )
  }
  const remove = () =>
    confirm({
      title: `Delete ${name}`,
      tells: (
        <p>
          What it was to bring about does not happen. It is kept for 30 days, and can be brought
          back until then.
        </p>
      ),
      verb: 'Delete it',
      isHarmful: true,
      async act(why) {
        await ask(service, `${path}?${new URLSearchParams({ why }).toString()}`, {
          method: 'DELETE'
        })
        return `Letter ${id} is deleted.`
      },
      after: () => go(linkTo({ view: 'letters', service }))
    })
  const send = () =>
    confirm({
      title: `Send ${name} with another body`,
      tells: (
        <>
          <p>
            It is held to its contract first, and sent under a new id. This letter stays, with the
            difference.
          </p>
          <Text label="Edited body" text={edited ?? ''} />
        </>
      ),
      verb: 'Send it',
      async act(why) {
        const sent = await ask<{ messageId?: string }>(service, `${path}/edit`, {
          method: 'POST',
          body: { body: JSON.parse(edited ?? '') as unknown, why }
        })
        setEdited(undefined)
        return `Sent as ${sent?.messageId ?? 'another message'}.`
      },
      after: refresh
    })
  const mayEdit = may('letter:edit')
  return (
    <>
      <p class="buttons">
        {may('letter:retry') ? (
          <>
            <button
              type="button"
              class="main"
              data-key="r"
              title="Key: r"
              disabled={status !== 'waiting'}
              onClick={() => retry(refresh)}
            >
              Retry …
            </button>
            <button
              type="button"
              data-key="n"
              title="Key: n"
              disabled={status !== 'waiting'}
              onClick={() => retry(() => void next())}
            >
              Retry, then the next …
            </button>
          </>
        ) : null}
        {mayEdit && body.value !== undefined && edited === undefined ? (
          <button type="button" onClick={() => setEdited(JSON.stringify(body.value, undefined, 1))}>
            Edit and send …
          </button>
        ) : null}
        {may('letter:delete') ? (
          <button type="button" class="harmful" onClick={remove}>
            Delete …
          </button>
        ) : null}
      </p>
      {edited === undefined ? null : (
        <div class="editor">
          <label for="edited">The message’s body</label>
          <textarea
            id="edited"
            rows={Math.min(20, edited.split('\n').length + 1)}
            spellcheck={false}
            value={edited}
            onInput={(event) => setEdited(event.currentTarget.value)}
          />
          {isJson(edited) ? null : (
            <p class="bad" role="status">
              This is no JSON yet.
            </p>
          )}
          <p class="buttons">
            <button type="button" class="main" disabled={!isJson(edited)} onClick={send}>
              Check and send …
            </button>
            <button type="button" onClick={() => setEdited(undefined)}>
              Back
            </button>
          </p>
        </div>
      )}
    </>
  )
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

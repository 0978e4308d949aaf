import { duration } from '../clock.ts'
import { linkTo } from '../place.ts'
import type { Hop, Messages, TracedMessage } from '../types.ts'
import { When } from './time.tsx'

const NAMES: Readonly<Record<string, string>> = {
  scheduled: 'to be sent later',
  discarded: 'given up by a person',
  unknown: 'not known: it did not answer, or has forgotten',
  outbox: 'in the outbox',
  putOff: 'put off',
  broker: 'with the broker',
  handled: 'handled',
  deadLetter: 'dead letter'
}

/** Messages in their order, each with where it was and how long it waited there. */
export function Timeline({ of: { messages, unknown } }: { of: Messages }) {
  const known = new Set(messages.map(({ messageId }) => messageId))
  return (
    <>
      {unknown.length > 0 ? (
        <p class="says problem">
          {unknown.join(', ')} did not answer: what happened there is not shown.
        </p>
      ) : null}
      {messages.length === 0 ? <p>No message is known.</p> : null}
      <ol class="timeline">
        {messages.map((message) => (
          <Entry
            key={message.messageId}
            message={message}
            isCauseHere={message.causedBy !== null && known.has(message.causedBy)}
          />
        ))}
      </ol>
    </>
  )
}

function Entry({ message, isCauseHere }: { message: TracedMessage; isCauseHere: boolean }) {
  const { messageId, contract, kind, from, to, sentAt, causedBy, hops } = message
  return (
    <li
      id={`message-${messageId}`}
      class={hops.some(({ state }) => state === 'deadLetter') ? 'bad' : ''}
    >
      <div>
        <a href={linkTo({ view: 'message', id: messageId })}>{contract}</a>{' '}
        <span class="quiet">{kind}</span> {from ?? '?'} → {to.join(', ') || 'nobody'}{' '}
        {sentAt ? <When at={sentAt} /> : null}
        {causedBy && !isCauseHere ? (
          <>
            {' '}
            <a href={linkTo({ view: 'message', id: causedBy })}>its cause</a>
          </>
        ) : null}
      </div>
      <Hops hops={hops} />
    </li>
  )
}

/** Outbox → broker → handled, each with its wait. */
export function Hops({ hops }: { hops: readonly Hop[] }) {
  return (
    <ul class="hops">
      {hops.map((hop, index) => (
        <li key={index} class={`hop ${hop.state}`} data-hop={hop.state}>
          {hop.service}: {NAMES[hop.state] ?? hop.state}
          {hop.waitedMs === null ? '' : ` after ${duration(hop.waitedMs)}`}
          {hop.letterId != null ? (
            <>
              {' '}
              <a href={linkTo({ view: 'letter', service: hop.service, id: hop.letterId })}>
                letter {hop.letterId}
              </a>
            </>
          ) : null}
          {hop.error ? <div class="bad">{hop.error}</div> : null}
        </li>
      ))}
    </ul>
  )
}

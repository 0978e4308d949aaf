// W3C's trace context, as messages of all kinds carry it.
type Headers = Readonly<Record<string, unknown>>

const TRACE = 'traceparent'
/** MassTransit's header for the same. */
const ACTIVITY = 'MT-Activity-Id'
/** .NET has ids of another form, too: those lead nowhere here. */
const TRACEPARENT = /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/

/**
 * The headers of a message with the trace that came with it: by `traceparent` among its own headers,
 * or among AMQP's, or by MassTransit's name for it.
 * @param beside what travelled beside the bytes
 */
export function withTrace(headers: Headers, beside: Headers | undefined): Headers {
  if (headers[TRACE] !== undefined) return headers
  const found = beside?.[TRACE] ?? beside?.[ACTIVITY] ?? headers[ACTIVITY]
  if (typeof found !== 'string' || !TRACEPARENT.test(found)) return headers
  return { ...headers, [TRACE]: found }
}

/** What travels beside a message of a trace, for those who look there; undefined: it is of none. */
export function besideTrace(headers: Headers): Record<string, string> | undefined {
  const trace = headers[TRACE]
  if (typeof trace !== 'string' || !TRACEPARENT.test(trace)) return undefined
  return { [TRACE]: trace, [ACTIVITY]: trace }
}

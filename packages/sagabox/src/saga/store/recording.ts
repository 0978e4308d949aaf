import Type, { type Static } from 'typebox'
import { nullable } from '../../messaging/message/nullable.ts'
import { checker } from '../../messaging/message/validation.ts'
import type { HistoryRow, SagaRow } from './rows.ts'
import { SagaboxError } from '../../messaging/errors/sagabox-error.ts'

const Data = Type.Record(Type.String(), Type.Unknown())
const Version = Type.Integer({ minimum: 1 })

/** One instance with its whole history, as exported: enough to fold it again anywhere. */
export const Recording = Type.Object({
  saga: Type.String(),
  sagaId: Type.String(),
  key: Type.Optional(
    nullable(Type.String({ description: 'What its messages call it; null: its id' }))
  ),
  state: Type.String({ description: 'The active state as a path' }),
  value: Type.Unknown({ description: 'The state as XState writes it' }),
  context: Data,
  version: Type.Integer({ description: 'Recorded steps' }),
  machineVersion: Version,
  timers: Type.Array(
    Type.Object({
      id: Type.String(),
      event: Type.String(),
      dueAt: Type.String(),
      times: Type.Optional(Type.Integer())
    })
  ),
  deferred: nullable(
    Type.Array(
      Type.Object(
        {
          event: Type.Object({ type: Type.String() }, { additionalProperties: true }),
          messageId: nullable(Type.String())
        },
        { additionalProperties: true }
      )
    )
  ),
  createdAt: Type.String(),
  updatedAt: Type.String(),
  history: Type.Array(
    Type.Object({
      sequence: Type.Integer({ minimum: 1 }),
      event: Type.String(),
      body: Data,
      messageId: nullable(Type.String()),
      from: nullable(Type.String()),
      to: Type.String(),
      sent: Type.Array(Type.Object({ type: Type.String(), messageId: Type.String() })),
      note: nullable(Type.String()),
      machineVersion: Version,
      at: Type.String()
    })
  )
})

/** One instance with its whole history. */
export type Recording = Static<typeof Recording>

const check = checker(Recording)

/** Longest part of a wrong line that is shown. */
const SHOWN = 60

/** A line that is no recording; the message says what was wrong and what was expected. */
export class InvalidRecording extends SagaboxError {
  override readonly name = 'InvalidRecording'
  override readonly code = 'INVALID_RECORDING'
}

/**
 * Reads a line of an export.
 * @throws InvalidRecording: it may come from anywhere
 */
export function readRecording(line: string): Recording {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw new InvalidRecording(
      `expected one JSON object a line, as GET /sagas/export writes it; got ${shown(line)}`
    )
  }
  const problem = check(value)
  if (problem)
    throw new InvalidRecording(
      `${problem.field.replace(/^\./, '') || 'the line'} ${problem.expected}`
    )
  return value as Recording
}

export function rowOf(recording: Recording): SagaRow {
  const { sagaId, state, value, context, version, machineVersion, timers, deferred } = recording
  const { key = null } = recording
  return {
    saga_id: sagaId,
    key,
    state,
    value,
    context,
    version,
    timers,
    machine_version: machineVersion,
    deferred: deferred as SagaRow['deferred'],
    stuck_since: null,
    last_error: null
  }
}

export function historyOf({ sagaId, history }: Recording): HistoryRow[] {
  return history.map(
    ({ sequence, event, body, messageId, from, to, sent, note, machineVersion }) => ({
      saga_id: sagaId,
      sequence,
      event,
      body,
      message_id: messageId,
      from_state: from,
      to_state: to,
      sent,
      note,
      machine_version: machineVersion
    })
  )
}

function shown(text: string): string {
  if (text === '') return 'an empty line'
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text
}

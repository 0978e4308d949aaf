import type { SagaDefinition } from '../define.ts'
import type { ServiceReport } from '../../messaging/trace/report.ts'
import type { Sighting } from '../../messaging/trace/trace.ts'
import { endsOf } from '../machine/states.ts'
import { allVersions, ofVersion, resume, Stranded, versionOf } from '../run/versions.ts'
import { awaitedBy, nextOf, spokenIn, type Awaited, type Next, type Spoken } from './awaited.ts'
import type { KnownInstance } from './instance.ts'
import type { Others } from './others.ts'
import type { Usual } from './usual.ts'
import { listed, many, span, timerName, times, turn } from './words.ts'

/** Why an instance does not move, the first that is true. */
export type Finding =
  | 'ended'
  | 'noMachine'
  | 'deadLetter'
  | 'inOutbox'
  | 'putOff'
  | 'answerInOutbox'
  | 'silent'
  | 'nowhere'
  | 'deferred'
  | 'timer'

/** What the sentence rests on. */
export interface Evidence {
  text: string
  service?: string
  messageId?: string
  letterId?: number
  /** ISO 8601. */
  at?: string
}

/** What a person may do about it. */
export interface Suggestion {
  text: string
  action?: 'retry' | 'cancel' | 'letter'
  /** What it is done to: a path of the API. */
  target?: string
}

export interface Explanation {
  sentence: string
  severity: 'ok' | 'waiting' | 'problem'
  finding: Finding
  evidence: Evidence[]
  suggestions: Suggestion[]
  others: { count: number; state: string }
  /** What happens if nothing comes. */
  next: { at: string; to: string; sends: string[] } | null
}

/** All that an explanation is made of. */
export interface Facts extends KnownInstance {
  definition: SagaDefinition
  /** The service that has the saga. */
  service: string
  /** By the services' names. */
  reports: ReadonlyMap<string, ServiceReport>
  /** Services that did not answer, and why. */
  unknown: ReadonlyMap<string, string>
  others: Others | undefined
  usual: Usual | undefined
}

/** What is found, without what is always appended. */
interface Found {
  finding: Finding
  sentence: string
  severity: Explanation['severity']
  suggestions?: Suggestion[]
}

/** Longer than so many ms in an outbox, nothing is about to leave. */
const STILL_LEAVING_MS = 10_000
/** A wait without a usual is a problem from so many ms on. */
const LONG_MS = 60_000

/** A message that somebody has to answer, and where it is. */
interface Looked {
  owner: string
  spoken: Spoken
  /** In the owner's tables. */
  letter: Sighting | undefined
  handled: Sighting | undefined
  putOff: Sighting | undefined
  /** In whoever's outbox, and whose. */
  outgoing: (Sighting & { service: string }) | undefined
  /** The newest that the owner has to answer. */
  isNewest: boolean
  /** The instance waits for this owner in the first place. */
  isFirst: boolean
}

/** Says in one sentence why an instance does not move. */
export function explain(facts: Facts): Explanation {
  const { row, definition, others } = facts
  const found = ended(facts) ?? stranded(facts)
  if (found) return whole(facts, found, [], undefined)
  const saga = ofVersion(definition, row.machine_version) ?? definition
  const awaited = awaitedBy(saga, row)
  const next = nextOf(saga, row)
  const looked = lookAt(facts, awaited)
  const why =
    buried(facts, awaited, looked) ??
    unsent(facts, looked) ??
    postponed(facts, awaited, looked) ??
    unanswered(facts, awaited, looked) ??
    silent(facts, awaited, looked) ??
    underWay(facts, awaited, looked) ??
    deferred(facts) ??
    alone(facts, awaited, next)
  const severity = row.stuck_since !== null && why.severity !== 'problem' ? 'problem' : why.severity
  const crowd =
    others && others.count > 0
      ? ` ${many(others.count, 'other')} ${others.count === 1 ? 'waits' : 'wait'} in ${row.state}${others.longerThanUsual ? ' longer than usual' : ', too'}.`
      : ''
  const otherwise =
    next && why.finding !== 'timer'
      ? ` If nothing comes, in ${span(Date.parse(next.at) - facts.now.getTime())} → ${next.to}${next.sends.length > 0 ? `, which sends ${listed(next.sends)}` : ''}.`
      : ''
  return whole(
    facts,
    { ...why, severity, sentence: why.sentence + crowd + otherwise },
    evidenceOf(facts, looked),
    next
  )
}

function whole(
  { row, others }: Facts,
  { finding, sentence, severity, suggestions = [] }: Found,
  evidence: Evidence[],
  next: Next | undefined
): Explanation {
  return {
    sentence,
    severity,
    finding,
    evidence: [
      ...evidence,
      ...(row.last_error
        ? [{ text: `Last error: ${row.last_error.message}`, at: row.last_error.at }]
        : [])
    ],
    suggestions,
    others: { count: others?.count ?? 0, state: row.state },
    next: next ? { at: next.at, to: next.to, sends: next.sends } : null
  }
}

function ended(facts: Facts): Found | undefined {
  const { row, definition, enteredAt } = facts
  const saga = ofVersion(definition, row.machine_version) ?? definition
  if (!endsOf(saga).includes(row.state)) return undefined
  return {
    finding: 'ended',
    severity: 'ok',
    sentence: `Ended ${ago(facts, enteredAt)} as ${row.state}.`
  }
}

function stranded({ row, definition, now }: Facts): Found | undefined {
  const here = allVersions(definition).map(versionOf)
  const versions = `it is on version ${row.machine_version}, and here ${here.length === 1 ? 'is version' : 'are versions'} ${listed(here.map(String))}`
  try {
    resume(definition, row, now)
  } catch (error) {
    if (!(error instanceof Stranded)) throw error
    return {
      finding: 'noMachine',
      severity: 'problem',
      sentence: `No machine here can move it: ${versions}. ${error.message}.`,
      suggestions: [
        { text: 'Run the version that has its machine, or keep that machine under previous' },
        { text: 'Bring it to a state of today’s machine by hand: POST …/migrate' }
      ]
    }
  }
  // What the machine itself throws at a timer; a failure of others has a type.
  if (row.last_error === null || row.last_error.type !== null) return undefined
  return {
    finding: 'noMachine',
    severity: 'problem',
    sentence: `Its machine fails: ${row.last_error.message} (${versions}).`,
    suggestions: [
      { text: 'Mend the machine; its timer is tried again by itself' },
      { text: 'Bring it to another state by hand: POST …/migrate' }
    ]
  }
}

/** Where the messages are that others have to answer. */
function lookAt({ reports, unknown, steps, row }: Facts, awaited: Awaited): Looked[] {
  const spoken = spokenIn(steps)
  const entry =
    steps.findLast(({ from_state: from, to_state: to }) => from !== to)?.sequence ?? row.version
  const outgoing = new Map(
    [...reports].flatMap(([service, { messages }]) =>
      messages
        .filter(({ state }) => ['outbox', 'broker', 'scheduled', 'discarded'].includes(state))
        .map((sighting) => [sighting.messageId, { ...sighting, service }] as const)
    )
  )
  const found = [...awaited.owners, ...awaited.alsoOwners].flatMap((owner) => {
    const report = reports.get(owner)
    const takes = (one: Spoken) =>
      report ? report.endpoint.takes.includes(one.contract) : unknown.has(owner)
    const taken = spoken.filter(takes)
    const fresh = taken.filter(({ sequence }) => sequence >= entry)
    const candidates = fresh.length > 0 ? fresh : taken.slice(-1)
    return candidates.map((one, index): Looked => {
      const own = report?.messages.filter(({ messageId }) => messageId === one.messageId) ?? []
      return {
        owner,
        spoken: one,
        letter: own.find(({ state, status }) => state === 'deadLetter' && status === 'waiting'),
        handled: own.find(({ state }) => state === 'handled'),
        putOff: own.find(({ state }) => state === 'putOff'),
        outgoing: outgoing.get(one.messageId),
        isNewest: index === candidates.length - 1,
        isFirst: awaited.owners.includes(owner)
      }
    })
  })
  // Whoever was told something by the step into this state is waited for, and not who spoke before.
  const isFresh = ({ isFirst, spoken: one }: Looked) => isFirst && one.sequence >= entry
  if (found.some(isFresh)) for (const one of found) one.isFirst = isFresh(one)
  return [...found.filter(({ isFirst }) => isFirst), ...found.filter(({ isFirst }) => !isFirst)]
}

/** Of the saga's own service: what came for the instance, and is of what it waits for. */
function arrived({ reports, service }: Facts, { events }: Awaited): Sighting[] {
  const names = new Set(events.map(({ name }) => name))
  return (reports.get(service)?.messages ?? []).filter(
    ({ contract }) => contract !== null && names.has(contract)
  )
}

function buried(facts: Facts, awaited: Awaited, looked: readonly Looked[]): Found | undefined {
  const { service } = facts
  const sent = looked.flatMap(({ owner, letter }) => (letter ? [{ owner, letter }] : []))
  const came = arrived(facts, awaited)
    .filter(({ state, status }) => state === 'deadLetter' && status === 'waiting')
    .map((letter) => ({ owner: service, letter }))
  const [first] = [...sent, ...came]
  if (!first) return undefined
  const { owner, letter } = first
  const { letterId, sameCause, contract, destination, error } = letter
  const also = sameCause > 0 ? `, ${many(sameCause, 'other')} with the same cause` : ''
  const target = `/ops/${owner}/dead-letters/${letterId}`
  return {
    finding: 'deadLetter',
    severity: 'problem',
    sentence: `${destination} could not handle ${contract ?? 'a message'}${error === null ? '' : `: ${unpointed(error)}`} (letter ${letterId}${also}).`,
    suggestions: [
      {
        text: `Mend the cause, then send letter ${letterId} back to ${destination}`,
        action: 'letter',
        target
      }
    ]
  }
}

function unsent(facts: Facts, looked: readonly Looked[]): Found | undefined {
  const found = looked.find(
    ({ outgoing, handled }) => !handled && outgoing && outgoing.state !== 'broker'
  )
  if (!found) return undefined
  const { spoken, outgoing } = found
  const { service, state, at, error, dueAt } = outgoing!
  const contract = outgoing!.contract ?? spoken.contract
  if (state === 'scheduled')
    return {
      finding: 'inOutbox',
      severity: 'waiting',
      sentence: `${contract} is to be sent later, in ${ahead(facts, dueAt)}.`
    }
  if (state === 'discarded')
    return {
      finding: 'inOutbox',
      severity: 'problem',
      sentence: `${contract} was given up in ${service}'s outbox ${ago(facts, at)}: ${unpointed(error ?? 'no reason is known')}.`,
      suggestions: [retrying(facts)]
    }
  return {
    finding: 'inOutbox',
    severity: hasWaited(facts, at, STILL_LEAVING_MS) ? 'problem' : 'waiting',
    sentence: `${contract} has not left ${service}'s outbox for ${since(facts, at)}: ${whyUnsent(facts, outgoing!)}.`,
    suggestions: [{ text: `See what waits there: GET /ops/${service}/outbox` }]
  }
}

function whyUnsent({ reports }: Facts, { service, error }: Sighting & { service: string }): string {
  const { problem, relayLeads } = reports.get(service)!.endpoint
  if (error !== null) return unpointed(error)
  if (problem !== null) return unpointed(problem)
  return relayLeads
    ? 'it is about to leave, or waits for its turn'
    : `no process of ${service} sends`
}

function postponed(facts: Facts, awaited: Awaited, looked: readonly Looked[]): Found | undefined {
  const { reports, service } = facts
  const sent = looked.flatMap(({ owner, putOff }) => (putOff ? [{ owner, putOff }] : []))
  const came = arrived(facts, awaited)
    .filter(({ state }) => state === 'putOff')
    .map((putOff) => ({ owner: service, putOff }))
  const [first] = [...sent, ...came]
  if (!first) return undefined
  const { owner, putOff } = first
  const { attempts, dueAt, error, destination, contract } = putOff
  const again = `tries again in ${ahead(facts, dueAt)}`
  if (attempts === 0)
    return {
      finding: 'putOff',
      severity: 'waiting',
      sentence: `${destination} could not handle ${contract ?? 'a message'} yet, since a lock is in its way; ${again}.`
    }
  const of = reports.get(owner)!.endpoint.redeliverySeconds.length
  const last = attempts >= of
  return {
    finding: 'putOff',
    severity: last ? 'problem' : 'waiting',
    sentence:
      `${destination} has failed ${times(attempts)} with ${contract ?? 'a message'}${error === null ? '' : ` (${unpointed(error)})`}; ` +
      `${again}, ${turn(attempts, Math.max(of, attempts))}${last ? ', then it becomes a dead letter' : ''}.`
  }
}

function unanswered(
  facts: Facts,
  { events }: Awaited,
  looked: readonly Looked[]
): Found | undefined {
  const names = new Set(events.map(({ name }) => name))
  const had = new Set(facts.steps.map(({ message_id: id }) => id))
  for (const { owner, spoken, handled } of looked) {
    const answer = facts.reports
      .get(owner)
      ?.messages.find(
        ({ state, contract, messageId }) =>
          state === 'outbox' && contract !== null && names.has(contract) && !had.has(messageId)
      )
    if (!handled || !answer) continue
    return {
      finding: 'answerInOutbox',
      severity: hasWaited(facts, answer.at, STILL_LEAVING_MS) ? 'problem' : 'waiting',
      sentence:
        `${owner} handled ${spoken.contract} ${ago(facts, handled.at)}, and its answer ${answer.contract} has not left its outbox for ${since(facts, answer.at)}: ` +
        `${whyUnsent(facts, { ...answer, service: owner })}.`,
      suggestions: [{ text: `See what waits there: GET /ops/${owner}/outbox` }]
    }
  }
  return undefined
}

function silent(facts: Facts, awaited: Awaited, looked: readonly Looked[]): Found | undefined {
  const found = looked.find(({ handled, isNewest, isFirst }) => isNewest && handled && isFirst)
  if (!found || answerUnderWay(facts, awaited)) return undefined
  const { owner, spoken, handled } = found
  const depth = facts.reports.get(facts.service)?.endpoint.queueDepth ?? 0
  const queue =
    depth > 0
      ? `, unless it is among the ${many(depth, 'message')} that wait for ${facts.service}`
      : ''
  return {
    finding: 'silent',
    severity: hasWaited(facts, handled!.at) ? 'problem' : 'waiting',
    sentence: `${owner} handled ${spoken.contract} ${ago(facts, handled!.at)}, and nothing has come of it that this saga takes${queue}: ${owner} waits for somebody outside, or has a bug.`,
    suggestions: [
      retrying(facts),
      {
        text: `Supply the answer by hand: POST …/answer with one of ${listed(
          awaited.events.map(({ name }) => name),
          'or'
        )}`
      }
    ]
  }
}

/** What it waits for has been given to the broker by whoever sends it. */
function answerUnderWay(
  { reports, steps }: Facts,
  { events }: Awaited
): (Sighting & { service: string }) | undefined {
  const names = new Set(events.map(({ name }) => name))
  const had = new Set(steps.map(({ message_id: id }) => id))
  for (const [service, { messages }] of reports) {
    const found = messages.find(
      ({ state, contract, messageId }) =>
        state === 'broker' && contract !== null && names.has(contract) && !had.has(messageId)
    )
    if (found) return { ...found, service }
  }
  return undefined
}

function underWay(facts: Facts, awaited: Awaited, looked: readonly Looked[]): Found | undefined {
  const answer = answerUnderWay(facts, awaited)
  const lost = looked.find(({ handled, isNewest, isFirst }) => isNewest && !handled && isFirst)
  if (!answer && !lost) return undefined
  const to = answer ? facts.service : lost!.owner
  const contract = answer?.contract ?? lost!.spoken.contract
  const report = facts.reports.get(to)
  if (!report)
    return {
      finding: 'nowhere',
      severity: 'problem',
      sentence: `It waits for ${to}, which cannot be asked (${facts.unknown.get(to) ?? 'it is not among the services known here'}): what became of ${contract} is not known.`,
      suggestions: [{ text: `See whether ${to} runs: GET /health/ready` }, retrying(facts)]
    }
  const { queueDepth, lastHandledAt, paused, problem, inboxDays } = report.endpoint
  const at = answer?.at ?? lost!.spoken.at
  if (!answer && hasWaited(facts, at, inboxDays * 86_400_000))
    return {
      finding: 'silent',
      severity: 'problem',
      sentence: `${to} was sent ${contract} ${ago(facts, at)}, and remembers no longer than ${span(inboxDays * 86_400_000)} what it has handled: nothing has come of it that this saga takes.`,
      suggestions: [retrying(facts)]
    }
  const depth =
    queueDepth === null
      ? `how much waits in the queue of ${to} cannot be told`
      : `${many(queueDepth, 'message')} ${queueDepth === 1 ? 'waits' : 'wait'} in the queue of ${to}`
  const life = paused
    ? `it is paused since ${span(facts.now.getTime() - Date.parse(paused.since))}: ${unpointed(paused.reason)}`
    : problem !== null
      ? unpointed(problem)
      : lastHandledAt === null
        ? 'it has handled nothing yet'
        : `it last handled anything ${ago(facts, lastHandledAt)}`
  return {
    finding: 'nowhere',
    severity: paused || problem !== null || hasWaited(facts, at) ? 'problem' : 'waiting',
    sentence: `${contract} is with the broker or being handled: ${depth}, and ${life}.`,
    suggestions: paused
      ? [{ text: `Resume ${to}: POST /ops/${to}/endpoint/resume` }]
      : hasWaited(facts, at)
        ? [retrying(facts)]
        : []
  }
}

function deferred(facts: Facts): Found | undefined {
  const [first, ...more] = facts.row.deferred ?? []
  if (!first) return undefined
  const when = first.at === undefined ? '' : ` ${ago(facts, first.at)}`
  const rest = more.length > 0 ? ` (and ${many(more.length, 'other')})` : ''
  return {
    finding: 'deferred',
    severity: 'waiting',
    sentence: `It keeps ${first.event.type}${rest}, which came${when}, too early for ${facts.row.state}, until that is over.`,
    suggestions: [{ text: 'If that state never ends, drop it: POST …/drop-deferred' }]
  }
}

function alone(facts: Facts, { events }: Awaited, next: Next | undefined): Found {
  const names = listed(
    events.map(({ name }) => name),
    'or'
  )
  if (next) {
    const left = ahead(facts, next.at)
    const first = names === '' ? '' : `${names}, or `
    return {
      finding: 'timer',
      severity: 'ok',
      sentence: `It waits for ${first}${timerName(next.event)}, in ${left} → ${next.to}${next.sends.length > 0 ? `, which sends ${listed(next.sends)}` : ''}; nothing is wrong.`
    }
  }
  return {
    finding: 'silent',
    severity: 'waiting',
    sentence:
      names === ''
        ? `It has been in ${facts.row.state} for ${since(facts, facts.enteredAt)}, which takes no message and has no timer: only a person moves it on.`
        : `It has waited ${since(facts, facts.enteredAt)} for ${names}, which nothing that it sent asks for: it comes from outside, and there is no timer.`
  }
}

function evidenceOf({ unknown, now }: Facts, looked: readonly Looked[]): Evidence[] {
  const lines = looked.map((one): Evidence => {
    const { owner, spoken, letter, handled, putOff, outgoing } = one
    const seen = letter ?? putOff ?? handled ?? outgoing
    const where = letter
      ? `is letter ${letter.letterId} of ${owner}`
      : putOff
        ? `was put off by ${owner}`
        : handled
          ? `was handled by ${owner}`
          : outgoing && outgoing.state !== 'broker'
            ? `is in the outbox of ${outgoing.service}`
            : unknown.has(owner)
              ? `cannot be followed to ${owner}`
              : `is with the broker, or being handled by ${owner}`
    return {
      text: `${spoken.contract} ${where}${seen ? `, ${span(now.getTime() - Date.parse(seen.at))} ago` : ''}`,
      service: owner,
      messageId: spoken.messageId,
      ...(letter?.letterId != null && { letterId: letter.letterId }),
      at: seen?.at ?? spoken.at.toISOString()
    }
  })
  const silentOnes = [...unknown].map(([service, why]) => ({
    text: `${service} did not answer: ${why}`,
    service
  }))
  return [...lines, ...silentOnes]
}

function retrying({ definition, row }: Facts): Suggestion {
  return {
    text: 'Send once more what it waits for',
    action: 'retry',
    target: `/sagas/${definition.name}/${row.saga_id}/retry`
  }
}

/** Longer than usual, where that is known. */
function hasWaited({ now, usual }: Facts, at: string | Date, limitMs?: number): boolean {
  const limit = limitMs ?? (usual && usual.of >= 20 ? Math.max(usual.p95Ms, 1000) : LONG_MS)
  return now.getTime() - new Date(at).getTime() > limit
}

function since({ now }: Facts, at: string | Date): string {
  return span(now.getTime() - new Date(at).getTime())
}

function ago(facts: Facts, at: string | Date): string {
  return `${since(facts, at)} ago`
}

function ahead({ now }: Facts, at: string | null): string {
  return at === null ? 'a moment' : span(Date.parse(at) - now.getTime())
}

/** A sentence goes on after it. */
function unpointed(text: string): string {
  return text.trim().replace(/[.\s]+$/, '')
}

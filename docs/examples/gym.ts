// A gym: messages that are sent later, a reminder that comes every day, a question and its answer.
import {
  contracts,
  defineSaga,
  defineService,
  handle,
  ignore,
  startSagabox,
  Type,
  type Sagabox
} from 'sagabox'

const Id = Type.String({ format: 'uuid' })
const gym = contracts('gym', { correlateBy: 'memberId' })
const post = contracts('post', { correlateBy: 'memberId' })

export const Joined = gym.event('Joined', { memberId: Id })
export const Paid = gym.event('Paid', { memberId: Id })
export const BookClass = gym.command('BookClass', { memberId: Id, beginsAt: Type.String() })
export const LeaveClass = gym.command('LeaveClass', { memberId: Id })
export const Remind = post.command('Remind', { memberId: Id, of: Type.String() })

// Sent later, and cancelled.
const HOUR_MS = 3_600_000
const bookClass = handle(BookClass, ({ memberId, beginsAt }) => {
  const anHourBefore = new Date(Date.parse(beginsAt) - HOUR_MS)
  return Remind({ memberId, of: 'your class' }).after(anHourBefore, { token: `class ${memberId}` })
})
const leaveClass = handle(LeaveClass, async ({ memberId }, { cancel }) => {
  const wasInTime = await cancel(`class ${memberId}`)
  if (!wasInTime) return Remind({ memberId, of: 'the class that you have left: forget it' })
})

// Every day, until it is paid or a month has passed.
export const membership = defineSaga(
  'membership',
  { startedBy: Joined, handles: [Paid] },
  ({ send }) => ({
    initial: 'owing',
    states: {
      owing: {
        every: { '1d': send(Remind, ({ memberId }) => ({ memberId, of: 'what you owe' })) },
        after: { '30d': 'expelled' },
        on: { Paid: 'member' }
      },
      member: { tags: 'end', on: { Paid: ignore('paid before') } },
      expelled: { tags: 'end', on: { Paid: ignore('too late') } }
    }
  })
)

// Asked, and answered.
export const Fee = gym.response('Fee', { cents: Type.Integer() })
export const GetFee = gym.request('GetFee', { plan: Type.String() }, Fee)

const getFee = handle(GetFee, ({ plan }) => Fee({ cents: plan === 'student' ? 1500 : 3000 }))

export const services = [
  defineService('gym', {
    sagas: [membership],
    handlers: [bookClass, leaveClass, getFee],
    sends: [Remind]
  }),
  // One letter at a time: so it asks no more of the printer.
  defineService('post', {
    handlers: [handle(Remind, ({ of }) => console.log(`Remember ${of}`))],
    concurrency: { messages: 1 }
  })
]

export function start(dataDir: string): Promise<Sagabox> {
  return startSagabox({ services, dataDir })
}

// Runs gym.ts in one process: node --import=tsx docs/examples/run-gym.ts
import { randomUUID } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { BookClass, GetFee, LeaveClass, Remind, start } from './gym.ts'

const app = await start(process.argv[2] ?? '.data')
const memberId = randomUUID()

const { cents } = await app.request(GetFee({ plan: 'student' }), { timeout: '2s' })
console.log(`A student pays ${cents} cents`)

const beginsAt = new Date(Date.now() + 86_400_000).toISOString()
await app.publish(BookClass({ memberId, beginsAt }))
await scheduled(1)
await app.publish(LeaveClass({ memberId }))
await scheduled(0)

await app.service('post').pause('the printer is out of paper')
await app.publish(Remind({ memberId, of: 'your towel' }).after('1s'))
console.log(
  app
    .service('post')
    .notes()
    .paused?.replace(/since .*?Z/, 'since just now')
)
app.service('post').resume()
await sent()
await app.stop()

interface Outbox {
  scheduled: number
  pending: number
}

async function outboxOf(service: string): Promise<Outbox> {
  return (await fetch(`${app.url}/ops/${service}/outbox`)).json() as Promise<Outbox>
}

async function total(what: keyof Outbox): Promise<number> {
  const [gym, post] = await Promise.all(['gym', 'post'].map(outboxOf))
  return gym![what] + post![what]
}

/** Waits until so many messages are to be sent later. */
async function scheduled(count: number): Promise<void> {
  while ((await total('scheduled')) !== count) await setTimeout(20)
  console.log(`${count} to be sent later`)
}

/** Waits until all is sent, and handled. */
async function sent(): Promise<void> {
  while ((await total('scheduled')) + (await total('pending')) > 0) await setTimeout(20)
}

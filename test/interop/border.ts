import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { startSagabox, type Sagabox } from 'sagabox'
import { postgresForTests } from '../support/postgres.ts'
import type { Scope } from '../support/program.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { until } from '../support/until.ts'
import { DotnetProgram } from './dotnet.ts'
import { GetPrice, packed, parcel, ParcelRequested, services } from './parcels.ts'

/** Parcels by Sagabox in this process; courier and front end by .NET, a queue a consumer. */
export interface Border {
  app: Sagabox
  front: DotnetProgram
  courier: DotnetProgram
}

export interface Crossing {
  name: string
  run(border: Border): Promise<void>
}

/** What a .NET that sends to `queue:desk` sent before there was a desk. */
const early = `f${randomUUID().slice(1)}`

export async function openBorder(scope: Scope): Promise<Border> {
  const broker = await rabbitmqForTests()
  const url = await broker.createVhost()
  scope.teardown(() => broker.deleteVhost(url))
  const env = { RABBITMQ_URL: url, QUEUES: 'kebab-case', ADDRESSES: 'queue' }
  const front = await DotnetProgram.start(scope, 'front', env)
  const courier = await DotnetProgram.start(scope, 'courier', env)
  await post(front, 'pack', { parcelId: early })
  const app = await startSagabox({
    services,
    databaseUrl: await (await postgresForTests()).createDatabase('parcels'),
    rabbitmqUrl: url,
    signals: false
  })
  scope.teardown(() => app.stop())
  return { app, front, courier }
}

export const crossings: Crossing[] = [
  {
    name: 'queue: address',
    async run({ front }) {
      const parcelId = `f${randomUUID().slice(1)}`
      await post(front, 'pack', { parcelId })
      await until('both are packed', async () =>
        [early, parcelId].every((id) => packed.includes(id))
      )
    }
  },
  {
    name: 'saga by .NET',
    async run({ app, front }) {
      const parcelId = randomUUID()
      await post(front, 'parcels', { parcelId, address: '1 Main Street' })
      const { state } = await app.ended(parcel, parcelId)
      assert.equal(state, 'booked')
    }
  },
  {
    name: 'asked by .NET',
    run: async ({ front }) =>
      assert.deepEqual(await fee(front, 'student', 30), { cents: 1500, error: '' })
  },
  {
    name: '… in vain',
    run: async ({ front }) =>
      assert.deepEqual(await fee(front, 'slow', 1), { cents: null, error: 'timeout' })
  },
  {
    name: '… and refused',
    async run({ front }) {
      const { error } = await fee(front, 'broken', 30)
      assert.match(error, /No such plan/)
    }
  },
  {
    name: 'asks .NET',
    run: async ({ app }) =>
      assert.deepEqual(await app.request(GetPrice({ address: '1 Main Street' })), { cents: 1999 })
  },
  {
    name: '… in vain',
    run: ({ app }) =>
      assert.rejects(app.request(GetPrice({ address: 'far away' }), { timeout: '1s' }), {
        name: 'RequestTimedOut'
      })
  },
  {
    name: '… and refused',
    run: ({ app }) =>
      assert.rejects(app.request(GetPrice({ address: 'nowhere' })), {
        name: 'RequestFailed',
        message: /No courier goes nowhere/
      })
  },
  {
    name: 'fault of .NET',
    async run({ app }) {
      const parcelId = randomUUID()
      await app.publish(ParcelRequested({ parcelId, address: 'nowhere' }))
      await until('the saga shows it', async () => {
        const response = await fetch(`${app.url}/sagas/parcel/${parcelId}`)
        return response.ok && /No courier goes nowhere/.test(await response.text())
      })
    }
  },
  {
    name: 'fault for .NET',
    async run({ front }) {
      const parcelId = `0${randomUUID().slice(1)}`
      await post(front, 'pack', { parcelId })
      await until('it hears of it', async () =>
        (await (await fetch(`${front.url}/faults`)).text()).includes(
          `${parcelId}: No box is so small`
        )
      )
    }
  }
]

async function post({ url }: DotnetProgram, path: string, body: object): Promise<void> {
  const response = await fetch(`${url}/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body)
  })
  if (!response.ok)
    throw new Error(`POST /${path} answered ${response.status}: ${await response.text()}`)
}

async function fee({ url }: DotnetProgram, plan: string, seconds: number) {
  const response = await fetch(`${url}/fee/${plan}?seconds=${seconds}`)
  return (await response.json()) as { cents: number | null; error: string }
}

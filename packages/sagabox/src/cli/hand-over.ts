import { readQueueBindings } from '../doctor/bindings.ts'
import {
  handOver as handQueuesOver,
  NotHandedOver,
  type HandOverOptions,
  type QueueBinding
} from '../messaging/rabbitmq/hand-over.ts'
import { brokerPlace, explain } from './broker-place.ts'
import { EXIT, NotDone, WrongUsage, type Call, type Command, type Exit } from './command.ts'
import { clean } from './text.ts'

/** How long others are waited for when not said, seconds. */
const WAIT_SECONDS = 600
const LONGEST_WAIT_SECONDS = 86_400
/** When nothing came for so long, ms, nothing is under way any more. */
const SETTLED_MS = 2000

const UNSEEN = 'Bindings of the queue to exchanges of other names were not looked at'
const SEE_THEM = 'RABBITMQ_MANAGEMENT_URL=http://host:15672 lets them be kept, too'

const SAFE =
  'Nothing is lost meanwhile; ended at any point, the same command goes on. RABBITMQ_URL says ' +
  'where; RABBITMQ_MANAGEMENT_URL lets bindings to other exchanges be kept, too'

export const handOver: Command = {
  summary:
    "Let another service, such as one of .NET, declare an endpoint's queues anew: what waits in " +
    `them and what comes is kept, and poured back when they are there. ${SAFE}`,
  parameters: ['ENDPOINT'],
  options: {
    wait: {
      value: 'SECONDS',
      help: `how long to wait for the other service, ${WAIT_SECONDS} when not given`
    }
  },
  run(call) {
    const seconds = call.options.integer('wait', 0, LONGEST_WAIT_SECONDS) ?? WAIT_SECONDS
    return run(call, 'others', seconds * 1000)
  }
}

export const takeOver: Command = {
  summary:
    "Declare an endpoint's queues anew as Sagabox declares them, with what waits in them: another " +
    `service has declared them before. ${SAFE}`,
  parameters: ['ENDPOINT'],
  run: (call) => run(call, 'ours', 0)
}

async function run(call: Call, by: HandOverOptions['by'], waitMs: number): Promise<Exit> {
  const { options, terminal } = call
  const endpoint = endpointOf(call)
  const { url, managementUrl, tls } = brokerPlace(call)
  const isJson = options.has('json')
  const steps: string[] = []
  const done = (what: string) => {
    steps.push(what)
    if (!isJson) terminal.print(clean(what))
  }
  const found = await bindingsAt(url, managementUrl)
  const bindings = typeof found === 'string' ? [] : found
  if (typeof found === 'string') terminal.note(found)
  const { interrupted } = terminal
  const how = { endpoint, by, bindings, waitMs, settledMs: SETTLED_MS, interrupted, done }
  await handQueuesOver(url, tls, how).catch((error: Error) => {
    if (error instanceof NotHandedOver) throw new NotDone(error.message, { cause: error })
    return explain(error)
  })
  if (isJson) terminal.json({ endpoint, steps })
  return EXIT.ok
}

/** @throws WrongUsage */
function endpointOf({ parameters }: Call): string {
  const endpoint = parameters['ENDPOINT'] ?? ''
  if (/^[A-Za-z0-9_.:-]{1,230}$/.test(endpoint)) return endpoint
  throw new WrongUsage(
    `${clean(endpoint)} is no endpoint; expected the name of its queue, such as stock`
  )
}

/** Or a sentence about why they were not looked at. */
async function bindingsAt(
  url: string,
  managementUrl: string | undefined
): Promise<QueueBinding[] | string> {
  if (managementUrl === undefined) return `${UNSEEN}: ${SEE_THEM}`
  return readQueueBindings(managementUrl, url).catch(
    (error: Error) => `${UNSEEN}: ${error.message}`
  )
}

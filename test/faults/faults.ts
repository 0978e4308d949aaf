import { allCrashPoints, crashPoints } from './crash-points.ts'
import { databaseFaults } from './database.ts'
import { endpointFaults } from './endpoints.ts'
import type { Fault } from './fault.ts'
import { floodFaults } from './floods.ts'
import { letterFaults } from './letters.ts'
import { messageFaults } from './messages.ts'
import { moneyFaults } from './money.ts'
import { networkFaults } from './network.ts'
import { processFaults } from './processes.ts'
import { queueFaults } from './queues.ts'
import { serverFaults } from './servers.ts'
import { switchoverFaults } from './switchover.ts'

/** Everything that is done to the product. */
export const faults: Fault[] = [
  ...crashPoints,
  ...serverFaults,
  ...networkFaults,
  ...processFaults,
  ...messageFaults,
  ...letterFaults,
  ...moneyFaults,
  ...databaseFaults,
  ...switchoverFaults,
  ...queueFaults,
  ...endpointFaults,
  ...floodFaults,
  allCrashPoints
]

export function faultNamed(name: string): Fault {
  const found = faults.find((fault) => fault.name === name)
  if (!found) throw new Error(`No fault is named: ${name}`)
  return found
}

import t from 'tap'
import { failureConformance } from './failures.ts'
import { memoryBus } from './support/buses.ts'

failureConformance(t, memoryBus)

import t from 'tap'
import { failureConformance } from '../suites/failures.ts'
import { memoryBus } from '../../../../test/support/buses.ts'

failureConformance(t, memoryBus)

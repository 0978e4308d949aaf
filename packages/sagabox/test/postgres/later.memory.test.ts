import t from 'tap'
import { laterConformance } from '../suites/later.ts'
import { memoryBus } from '../../../../test/support/buses.ts'

laterConformance(t, memoryBus)

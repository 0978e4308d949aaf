import t from 'tap'
import { outageConformance } from '../suites/outages.ts'
import { memoryBus } from '../../../../test/support/buses.ts'

outageConformance(t, memoryBus)

import t from 'tap'
import { outageConformance } from './outages.ts'
import { memoryBus } from './support/buses.ts'

outageConformance(t, memoryBus)

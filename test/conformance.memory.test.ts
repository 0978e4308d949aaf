import t from 'tap'
import { transportConformance } from './conformance.ts'
import { memoryBus } from './support/buses.ts'

transportConformance(t, memoryBus)

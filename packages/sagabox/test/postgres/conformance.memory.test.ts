import t from 'tap'
import { transportConformance } from '../suites/conformance.ts'
import { memoryBus } from '../../../../test/support/buses.ts'

transportConformance(t, memoryBus)

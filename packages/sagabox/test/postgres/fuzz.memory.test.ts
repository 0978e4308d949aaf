import t from 'tap'
import { endpointFuzz } from '../suites/fuzz.ts'
import { memoryBus } from '../../../../test/support/buses.ts'

endpointFuzz(t, memoryBus)

import t from 'tap'
import { endpointFuzz } from './fuzz.ts'
import { memoryBus } from './support/buses.ts'

endpointFuzz(t, memoryBus)

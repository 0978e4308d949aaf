import t from 'tap'
import { endpointConformance } from '../suites/endpoint.ts'
import { memoryBus } from '../../../../test/support/buses.ts'

endpointConformance(t, memoryBus)

import t from 'tap'
import { endpointConformance } from '../suites/endpoint.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'

endpointConformance(t, rabbitmqBus)

import t from 'tap'
import { endpointFuzz } from '../suites/fuzz.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'

endpointFuzz(t, rabbitmqBus)

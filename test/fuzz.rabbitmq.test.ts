import t from 'tap'
import { endpointFuzz } from './fuzz.ts'
import { rabbitmqBus } from './support/buses.ts'

endpointFuzz(t, rabbitmqBus)

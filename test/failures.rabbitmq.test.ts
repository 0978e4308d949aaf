import t from 'tap'
import { failureConformance } from './failures.ts'
import { rabbitmqBus } from './support/buses.ts'

failureConformance(t, rabbitmqBus)

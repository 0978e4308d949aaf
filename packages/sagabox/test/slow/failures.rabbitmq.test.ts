import t from 'tap'
import { failureConformance } from '../suites/failures.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'

failureConformance(t, rabbitmqBus)

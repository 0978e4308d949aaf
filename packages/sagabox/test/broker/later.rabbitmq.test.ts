import t from 'tap'
import { laterConformance } from '../suites/later.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'

laterConformance(t, rabbitmqBus)

import t from 'tap'
import { outageConformance } from '../suites/outages.ts'
import { rabbitmqBus } from '../../../../test/support/buses.ts'

outageConformance(t, rabbitmqBus)

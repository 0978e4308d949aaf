import t from 'tap'
import { outageConformance } from './outages.ts'
import { rabbitmqBus } from './support/buses.ts'

outageConformance(t, rabbitmqBus)

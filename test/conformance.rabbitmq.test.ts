import t from 'tap'
import { transportConformance } from './conformance.ts'
import { rabbitmqBus } from './support/buses.ts'

transportConformance(t, rabbitmqBus)

import { rabbitmqBus } from '../../../../test/support/buses.ts'
import { foreignConformance } from '../suites/foreign.ts'

foreignConformance(rabbitmqBus)

import t from 'tap'
import { requestConformance } from '../suites/requests.ts'
import { memoryBus } from '../../../../test/support/buses.ts'

requestConformance(t, memoryBus)

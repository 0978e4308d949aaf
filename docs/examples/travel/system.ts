// All services of the travel agency; who runs them decides where.
import { flight } from './flight.ts'
import { hotel } from './hotel.ts'
import { trip } from './trip.ts'

export const system = [trip, flight, hotel]

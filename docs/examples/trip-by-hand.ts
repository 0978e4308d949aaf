// The saga of trip.ts, as a machine that is written by hand: it does the same.
import { defineSaga, ignore } from 'sagabox'
import {
  CancelFlight,
  CancelHotel,
  FlightCancelled,
  FlightRefused,
  FlightReserved,
  HotelCancelled,
  HotelRefused,
  HotelReserved,
  ReserveFlight,
  ReserveHotel,
  TripConfirmed,
  TripFailed,
  TripRequested
} from './trip.ts'

export const tripByHand = defineSaga(
  'trip',
  {
    startedBy: TripRequested,
    handles: [
      FlightReserved,
      FlightRefused,
      FlightCancelled,
      HotelReserved,
      HotelRefused,
      HotelCancelled
    ],
    asks: ['CancelTrip'],
    effects: [
      {
        doneBy: FlightReserved,
        undoneBy: CancelFlight,
        clearedBy: [FlightCancelled, FlightRefused]
      },
      { doneBy: HotelReserved, undoneBy: CancelHotel, clearedBy: [HotelCancelled, HotelRefused] }
    ],
    pointOfNoReturn: 'completed',
    context: (start) => ({
      ...start,
      reason: null as string | null,
      // What is or may be in effect.
      hasFlight: true,
      hasHotel: false,
      hasTold: false
    })
  },
  ({ send, set, defer }) => {
    const cancelFlight = send(CancelFlight, ({ tripId }) => ({ tripId }))
    const cancelHotel = send(CancelHotel, ({ tripId }) => ({ tripId }))
    const giveUp = (reason: string) =>
      set((_, event) => ({ reason: typeof event.reason === 'string' ? event.reason : reason }))
    const fromAnywhere = (reason: string) => [
      {
        target: '#trip.undoing.hotel',
        actions: giveUp(reason),
        guard: ({ context }: { context: { hasHotel: boolean } }) => context.hasHotel
      },
      { target: '#trip.undoing.flight', actions: giveUp(reason) }
    ]
    return {
      initial: 'doing',
      states: {
        doing: {
          initial: 'flight',
          on: {
            FlightCancelled: ignore('nobody asked to undo it'),
            HotelCancelled: ignore('nobody asked to undo it'),
            CancelTrip: fromAnywhere('cancelled')
          },
          after: { '20s': fromAnywhere('not completed within 20s') },
          states: {
            flight: {
              entry: send(ReserveFlight, ({ tripId, flight }) => ({ tripId, flight })),
              on: {
                FlightReserved: { target: 'hotel', actions: set(() => ({ hasHotel: true })) },
                FlightRefused: {
                  target: '#trip.failed',
                  actions: [giveUp('flight was refused'), set(() => ({ hasFlight: false }))]
                },
                HotelReserved: defer(),
                HotelRefused: ignore('it is not yet the turn of hotel')
              }
            },
            hotel: {
              entry: send(ReserveHotel, ({ tripId, hotel }) => ({ tripId, name: hotel })),
              on: {
                FlightReserved: ignore('flight was done before'),
                FlightRefused: ignore('the turn of flight has passed'),
                HotelReserved: '#trip.completed',
                HotelRefused: {
                  target: '#trip.undoing.flight',
                  actions: [giveUp('hotel was refused'), set(() => ({ hasHotel: false }))]
                }
              },
              after: {
                '10s': {
                  target: '#trip.undoing.hotel',
                  actions: giveUp('hotel was not answered within 10s')
                }
              }
            }
          }
        },
        completed: {
          tags: 'end',
          entry: send(TripConfirmed, ({ tripId }) => ({ tripId })),
          on: { '*': ignore('it is completed') }
        },
        undoing: {
          initial: 'hotel',
          on: {
            FlightReserved: { actions: set(() => ({ hasFlight: true })) },
            HotelReserved: { actions: set(() => ({ hasHotel: true })) },
            '*': ignore('it is being undone')
          },
          states: {
            hotel: {
              entry: cancelHotel,
              on: {
                HotelCancelled: [
                  {
                    target: 'flight',
                    actions: set(() => ({ hasHotel: false })),
                    guard: ({ context }) => context.hasFlight
                  },
                  { target: '#trip.failed', actions: set(() => ({ hasHotel: false })) }
                ],
                // The command may have overtaken what it is to undo.
                HotelReserved: { actions: cancelHotel }
              },
              after: { '15s': { target: 'hotel', reenter: true } }
            },
            flight: {
              entry: cancelFlight,
              on: {
                FlightCancelled: [
                  {
                    target: 'hotel',
                    actions: set(() => ({ hasFlight: false })),
                    guard: ({ context }) => context.hasHotel
                  },
                  { target: '#trip.failed', actions: set(() => ({ hasFlight: false })) }
                ],
                FlightReserved: { actions: cancelFlight }
              },
              after: { '30s': { target: 'flight', reenter: true } }
            }
          }
        },
        failed: {
          tags: 'end',
          entry: [
            send(TripFailed, ({ tripId, reason, hasTold }) =>
              hasTold ? undefined : { tripId, reason: reason ?? '' }
            ),
            set(() => ({ hasTold: true }))
          ],
          on: {
            FlightReserved: {
              target: '#trip.undoing.flight',
              actions: set(() => ({ hasFlight: true }))
            },
            HotelReserved: {
              target: '#trip.undoing.hotel',
              actions: set(() => ({ hasHotel: true }))
            },
            '*': ignore('it has failed')
          }
        }
      }
    }
  }
)

// How a trip must end: with a seat, a room and the money, or with none of them.
import { defineSaga } from 'sagabox'
import {
  BillWithdrawn,
  CancelRoom,
  CancelSeat,
  CancelTrip,
  FlightGrounded,
  ReserveRoom,
  ReserveSeat,
  RoomCancelled,
  RoomRefused,
  RoomReserved,
  SeatCancelled,
  SeatRefused,
  SeatReserved,
  SendBill,
  TripConfirmed,
  TripFailed,
  TripPaid,
  TripPlaced,
  WithdrawBill
} from './contracts.ts'

export const trip = defineSaga('trip', {
  startedBy: TripPlaced,
  within: '4d',
  cancelBy: CancelTrip,
  steps: ({ step }) => [
    step('flight', {
      do: ReserveSeat,
      done: SeatReserved,
      refused: SeatRefused,
      undo: CancelSeat,
      undone: SeatCancelled,
      within: '1m',
      undoAgain: '5s'
    }),
    step('hotel', {
      do: ReserveRoom,
      done: RoomReserved,
      refused: RoomRefused,
      undo: CancelRoom,
      undone: RoomCancelled,
      within: '1m',
      undoAgain: '5s'
    }),
    step('payment', {
      do: SendBill,
      done: TripPaid,
      undo: WithdrawBill,
      undone: BillWithdrawn,
      within: '3d'
    })
  ],
  handles: [FlightGrounded],
  on: { FlightGrounded: { giveUp: 'the airport is closed' } },
  completed: TripConfirmed,
  failed: TripFailed
})

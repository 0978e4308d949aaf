import type { RoleTable } from 'sagabox'

/** Who may do what in the shop, besides the library's own roles. */
export const roles: RoleTable = {
  /** Sees and cancels what they placed themselves. */
  customer: ['order:place', 'order:read', 'order:cancel'],
  /** Looks after everybody's orders, the shelves and the money. */
  clerk: [
    'order:place',
    'order:read',
    'order:cancel',
    'order:all',
    'product:write',
    'reservation:read',
    'payment:read',
    'payment:settle'
  ]
}

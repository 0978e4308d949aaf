// What contracts are written with: TypeBox, and what .NET has besides.
export * from 'typebox'
export { Decimal } from './decimal.ts'
export { NetEnum, type NetEnumOf } from './net-enum.ts'

// Tests gym.ts, in memory and in virtual time: node --import=tsx --test docs/examples/gym-test.ts
import { test } from 'node:test'
import { tell } from 'sagabox/testing'
import { Joined, membership, Paid, Remind } from './gym.ts'

const memberId = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const reminder = Remind({ memberId, of: 'what you owe' })
const { given } = tell(membership)

test('who owes is reminded every day, and not any more when it is paid', () => {
  given(Joined({ memberId }))
    .advance('1d')
    .then('owing', [reminder])
    .advance('2d')
    .then('owing', [reminder, reminder])
    .when(Paid({ memberId }))
    .then('member')
    .advance('7d')
    .then('member')
})

test('reminders do not put the end off', () => {
  given(Joined({ memberId })).advance('29d').forget().advance('1d').then('expelled')
})

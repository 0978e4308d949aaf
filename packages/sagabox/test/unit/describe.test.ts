import pg from 'pg'
import t from 'tap'
import { CannotStart } from '../../src/cannot-start.ts'
import { codeOf, DatabaseAway } from '../../src/messaging/errors/database-away.ts'
import { describeError, Thrown } from '../../src/messaging/errors/describe.ts'
import { MessageIdReused } from '../../src/messaging/inbox/inbox.ts'
import { NotRetryable } from '../../src/messaging/inbox/retry.ts'
import { UnfitSession } from '../../src/messaging/postgres/server.ts'
import { isConflict, isUnavailable, Conflict } from '../../src/messaging/postgres/sql.ts'
import { databaseProblem } from '../../src/messaging/postgres/problem.ts'

/** As pg gives what a server says. */
function said(code: string, text = 'said'): pg.DatabaseError {
  return Object.assign(new pg.DatabaseError(text, 1, 'error'), { code, severity: 'FATAL' })
}

t.test('the type of an own error is its class, as it always was: it is on the wire', async (t) => {
  class OfAUser extends NotRetryable {
    override readonly name = 'OfAUser'
  }
  const types = [
    new MessageIdReused('m'),
    new NotRetryable('m'),
    new OfAUser('m'),
    new CannotStart('m'),
    new Thrown('text')
  ].map((error) => describeError(error).type)
  t.same(types, ['MessageIdReused', 'NotRetryable', 'OfAUser', 'CannotStart', 'Error'])
})

t.test('what the database said stays beside the class', async (t) => {
  t.equal(describeError(new DatabaseAway(said('57P01'))).type, 'DatabaseAway 57P01')
  t.equal(describeError(new DatabaseAway(new Error('cut'))).type, 'DatabaseAway')
  t.equal(describeError(new UnfitSession('m')).type, 'UnfitSession 08004')
  t.equal(describeError(said('42703')).type, 'DatabaseError 42703')
  t.equal(describeError(Object.assign(new Error('m'), { code: 'ENOENT' })).type, 'Error ENOENT')
})

t.test('a proxy that was revoked can be described', async (t) => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  t.match(describeError(proxy), { type: 'Error' })
})

t.test('the code of a database is never taken from an own error', async (t) => {
  t.equal(codeOf(said('40001')), '40001')
  t.equal(codeOf(new DatabaseAway(said('53300'))), '53300')
  t.equal(codeOf(new DatabaseAway(new UnfitSession('m'))), '08004')
  t.equal(codeOf(new DatabaseAway(new Error('cut'))), undefined)
  t.equal(codeOf(new MessageIdReused('m')), undefined)
  t.ok(isConflict(new Conflict('m')))
  t.ok(isUnavailable(new DatabaseAway(new Error('cut'))))
})

t.test('advice about a database goes by what the database said', async (t) => {
  const refused = Object.assign(new Error('m'), { code: '28P01' })
  const plain = databaseProblem(refused, 'DATABASE_URL')
  t.match(plain, /^m: /)
  t.equal(databaseProblem(new DatabaseAway(refused), 'DATABASE_URL'), plain)
})

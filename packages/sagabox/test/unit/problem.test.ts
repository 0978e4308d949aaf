import Fastify from 'fastify'
import t from 'tap'
import { sendProblem } from '../../src/http/problem.ts'
import {
  RequestAborted,
  RequestFailed,
  RequestNotSent,
  RequestTimedOut
} from '../../src/messaging/request/errors.ts'

t.test('a route that got no answer of another service says so', async (t) => {
  const app = Fastify()
  app.setErrorHandler((error, request, reply) => sendProblem(error as never, request, reply))
  const errors = [
    new RequestTimedOut('GetFare was not answered by flight within 5 s'),
    new RequestNotSent('GetFare was not sent to flight: the broker is away'),
    new RequestAborted('GetFare: the process stops'),
    new RequestFailed('GetFare', [{ exceptionType: 'Error', message: 'of its own affairs' }])
  ]
  for (const [index, error] of errors.entries())
    app.get(`/${index}`, () => {
      throw error
    })
  const answers = await Promise.all(errors.map((_, index) => app.inject(`/${index}`)))
  t.same(
    answers.map(({ statusCode }) => statusCode),
    [504, 503, 503, 500]
  )
  t.match(answers[0]!.json(), { detail: 'GetFare was not answered by flight within 5 s' })
  t.equal(answers[1]!.headers['retry-after'], '1')
  t.notMatch(answers[3]!.body, /affairs/)
})

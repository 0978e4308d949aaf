import { HttpProblem } from './problem.ts'

/**
 * A time of a request as PostgreSQL takes it: RFC 3339 allows years and offsets that it does not.
 * @throws HttpProblem 400 that names the field
 */
export function timeOf(field: string, text: string): string {
  const time = new Date(text)
  const year = time.getUTCFullYear()
  if (!(year >= 1970 && year <= 9999))
    throw new HttpProblem(400, `${field} is not a time that can be looked up`, [
      { field, expected: 'must be a date-time from 1970 to 9999' }
    ])
  return time.toISOString()
}

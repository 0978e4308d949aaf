import { HttpProblem } from '../http/problem.ts'

/** Nobody is known to be asking. */
export class Unauthorized extends HttpProblem {
  override readonly code = 'UNAUTHORIZED'

  constructor(detail: string) {
    super(401, detail)
  }
}

/** Waits for work, but not longer than `ms`. */
export function atMost(ms: number, work: Promise<unknown> | undefined): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms)
    const done = () => {
      clearTimeout(timer)
      resolve()
    }
    Promise.resolve(work).then(done, done)
  })
}

/**
 * Waits for an answer that may never come.
 * @param late what to do with one that comes too late
 * @throws Error when it does not come in time
 */
export async function orTimeout<T>(
  ms: number,
  complaint: string,
  answer: Promise<T>,
  late: (value: T) => unknown = () => {}
): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      answer.then(late, () => {})
      reject(new Error(`${complaint} within ${ms / 1000} s`))
    }, ms)
  })
  try {
    return await Promise.race([answer, tooLate])
  } finally {
    clearTimeout(timer)
  }
}

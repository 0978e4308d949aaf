// `sagabox/engine`: what hot paths are made of. It stands outside the promise of versions.
export { backoff, Batcher } from './messaging/async/batcher.ts'
export { Loop } from './messaging/async/loop.ts'
export { atMost } from './messaging/async/timeout.ts'
export { waitOrSplit } from './messaging/inbox/retry.ts'
export { newId, UUID } from './messaging/message/id.ts'
export { problemsOf } from './messaging/message/validation.ts'
export { bigintAsNumber } from './messaging/postgres/database.ts'
export { retryConflicts } from './messaging/postgres/retry-conflicts.ts'
export {
  Conflict,
  isConflict,
  isUnavailable,
  joinJson,
  jsonTexts,
  run,
  statement,
  transaction,
  write
} from './messaging/postgres/sql.ts'
export { parseDatabaseUrl } from './messaging/postgres/url.ts'

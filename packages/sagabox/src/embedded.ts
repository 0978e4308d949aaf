// `sagabox/embedded`: a PostgreSQL of one's own, for development and tests.
export { FolderInUseError } from './embedded/lock.ts'
export {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  type ServerLog
} from './embedded/postgres.ts'

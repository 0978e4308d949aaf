// `sagabox/embedded`: a PostgreSQL of one's own, for development and tests.
export { FolderInUseError } from './embedded/lock.ts'
export {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions
} from './embedded/postgres.ts'

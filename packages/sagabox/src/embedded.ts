// `sagabox/embedded`: a PostgreSQL of one's own, for development and tests.
export {
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions
} from './embedded/postgres.ts'

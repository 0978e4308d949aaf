// Examples of the reference: a PostgreSQL of one's own, in the folder DATA_DIR. Imports are left
// out there.
import assert from 'node:assert/strict'
import { resolve } from 'node:path'
import {
  FolderInUseError,
  startEmbeddedPostgres,
  type EmbeddedPostgres,
  type EmbeddedPostgresOptions,
  type ServerLog
} from 'sagabox/embedded'

const folder = process.env['DATA_DIR'] ?? '.data'

// Example: startEmbeddedPostgres, EmbeddedPostgres, EmbeddedPostgresOptions, ServerLog, FolderInUseError
const log: ServerLog = { info: () => {}, error: (text) => console.error(text) }
const options: EmbeddedPostgresOptions = { dataDir: resolve(folder), log }
const postgres: EmbeddedPostgres = await startEmbeddedPostgres(options)
assert.match(postgres.url, /^postgres:\/\//)
await assert.rejects(startEmbeddedPostgres(options), FolderInUseError)
await postgres.stop()

// End of examples

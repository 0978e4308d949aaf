// A node-postgres datasource for DBOS 5: the registry had none (@dbos-inc/node-pg-datasource: 404),
// and those of DBOS 4 import names that the SDK no longer exports. It follows
// docs.dbos.dev/typescript/reference/plugins and the comments in the SDK's datasource.d.ts: the
// step's checkpoint commits with the rows, the owner is asserted inside the transaction, and a
// finished workflow's checkpoints are deleted.
import { AsyncLocalStorage } from 'node:async_hooks'
import { DBOS } from '@dbos-inc/dbos-sdk'
import {
  assertStillOwnsWorkflow,
  DBOSStepAlreadyRecordedError,
  DBOSWorkflowConflictError,
  isPGRetriableTransactionError,
  migrateDataSourcePG,
  registerDataSource,
  replayRecordedStep,
  runTransaction,
  type DataSourceTransactionHandler
} from '@dbos-inc/dbos-sdk/datasource'
import pg from 'pg'
import { SuperJSON } from 'superjson'

interface Recorded {
  output: string | null
  error: string | null
}

const READ = `select output, error from dbos.transaction_completion where workflow_id = $1 and function_num = $2`
const RECORD = `insert into dbos.transaction_completion (workflow_id, function_num, output, error) values ($1, $2, $3, $4) on conflict do nothing`
const FORGET = `delete from dbos.transaction_completion where workflow_id = $1 and function_num >= $2`

const current = new AsyncLocalStorage<pg.PoolClient>()

class Handler implements DataSourceTransactionHandler {
  readonly name: string
  readonly #config: pg.PoolConfig
  #pool: pg.Pool | undefined

  constructor(name: string, config: pg.PoolConfig) {
    this.name = name
    this.#config = config
  }

  async initialize(): Promise<void> {
    this.#pool = new pg.Pool(this.#config)
    this.#pool.on('error', (error) => DBOS.logger.warn(`Idle connection lost: ${error.message}`))
    await inTransaction(this.#pool, (client) =>
      migrateDataSourcePG(async (sql) => (await client.query<Record<string, unknown>>(sql)).rows)
    )
  }

  async destroy(): Promise<void> {
    await this.#pool?.end()
  }

  async deleteCheckpoints(
    workflowId: string,
    startStep: number,
    beforeCommit?: () => Promise<void>
  ): Promise<void> {
    await inTransaction(this.#pool!, async (client) => {
      await client.query({ name: 'forget', text: FORGET, values: [workflowId, startStep] })
      await beforeCommit?.()
    })
  }

  async invokeTransactionFunction<This, Args extends unknown[], Return>(
    _config: unknown,
    target: This,
    work: (this: This, ...args: Args) => Promise<Return>,
    ...args: Args
  ): Promise<Return> {
    const workflowId = DBOS.workflowID!
    const stepId = DBOS.stepID!
    for (let waitMs = 1; ; waitMs = Math.min(waitMs * 1.5, 2000)) {
      const recorded = await this.#recorded(workflowId, stepId)
      if (recorded) return replayRecordedStep<Return>(recorded)
      try {
        return await inTransaction(this.#pool!, async (client) => {
          const output = await current.run(client, () => work.call(target, ...args))
          await record(client, workflowId, stepId, SuperJSON.stringify(output), null)
          await assertStillOwnsWorkflow(workflowId)
          return output
        })
      } catch (error) {
        if (error instanceof DBOSWorkflowConflictError) throw error
        if (isPGRetriableTransactionError(error)) {
          await new Promise((resolve) => setTimeout(resolve, waitMs))
        } else if (!(error instanceof DBOSStepAlreadyRecordedError)) {
          await record(this.#pool!, workflowId, stepId, null, SuperJSON.stringify(error))
          throw error
        }
      }
    }
  }

  async #recorded(workflowId: string, stepId: number): Promise<Recorded | undefined> {
    const {
      rows: [row]
    } = await this.#pool!.query<Recorded>({
      name: 'read',
      text: READ,
      values: [workflowId, stepId]
    })
    return row
  }
}

async function record(
  client: pg.Pool | pg.PoolClient,
  workflowId: string,
  stepId: number,
  output: string | null,
  error: string | null
): Promise<void> {
  const { rowCount } = await client.query({
    name: 'record',
    text: RECORD,
    values: [workflowId, stepId, output, error]
  })
  if (rowCount === 0) throw new DBOSStepAlreadyRecordedError(workflowId, stepId)
}

/** Runs work in a transaction of its own. */
export async function inTransaction<T>(
  pool: pg.Pool,
  work: (client: pg.PoolClient) => Promise<T>
): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    await client.query('begin')
    const result = await work(client)
    await client.query('commit')
    return result
  } catch (error) {
    await client.query('rollback').catch((failure: Error) => (broken = failure))
    throw error
  } finally {
    client.release(broken)
  }
}

/**
 * Used as the package would be: `dataSource.runTransaction(work, { name })` in a workflow,
 * `dataSource.client` in the work.
 */
export class NodePostgresDataSource {
  readonly name: string

  constructor(name: string, config: pg.PoolConfig) {
    this.name = name
    registerDataSource(new Handler(name, config))
  }

  get client(): pg.PoolClient {
    return current.getStore()!
  }

  runTransaction<T>(work: () => Promise<T>, config: { name: string }): Promise<T> {
    return runTransaction(work, config.name, { dsName: this.name, config })
  }
}

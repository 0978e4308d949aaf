import type { Log } from '../messaging/async/log.ts'
import type { Outbox } from '../messaging/outbox/outbox.ts'
import type { RequestClient } from '../messaging/request/client.ts'
import type { Database } from '../messaging/postgres/database.ts'
import type { SagaDefinition } from '../saga/define.ts'
import type { SagaHost } from '../saga/run/host.ts'

/** A pool of a service's connections, and what is done by them. */
export interface ServiceConnections {
  /** Connected when the service starts. */
  database: Database
  outbox: Outbox
  /** As `outbox.transaction`: what is written in `tx` and sent by `tx.send` commits together. */
  transaction: Outbox['transaction']
}

/** What a service's code is given to work with. */
export interface ServiceContext extends ServiceConnections {
  /** For what people ask and change by HTTP: connections of its own, which give up soon. */
  requests: ServiceConnections
  log: Log
  /** Asks another service, for routes and workers: see RequestClient. Not inside a transaction. */
  request: RequestClient['request']
  /**
   * One of the service's sagas, to start its instances or ask them in a transaction.
   * @throws Error when the service has no such saga
   */
  saga(definition: SagaDefinition): SagaHost
}

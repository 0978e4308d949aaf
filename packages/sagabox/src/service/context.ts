import type { DataSource } from 'typeorm'
import type { Log } from '../messaging/async/log.ts'
import type { Outbox } from '../messaging/outbox/outbox.ts'
import type { RequestClient } from '../messaging/request/client.ts'
import type { SagaDefinition } from '../saga/define.ts'
import type { SagaHost } from '../saga/run/host.ts'

/** What a service's code is given to work with. */
export interface ServiceContext {
  /** Connected later, and perhaps again: ask it for repositories when they are needed. */
  dataSource: DataSource
  outbox: Outbox
  /** For what people ask and change by HTTP: connections of its own, which give up soon. */
  requests: { dataSource: DataSource; outbox: Outbox }
  log: Log
  /** Asks another service, for routes and workers: see RequestClient. Not inside a transaction. */
  request: RequestClient['request']
  /**
   * One of the service's sagas, to start its instances or ask them in a transaction.
   * @throws Error when the service has no such saga
   */
  saga(definition: SagaDefinition): SagaHost
}

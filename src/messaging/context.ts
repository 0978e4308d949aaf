import type { DataSource } from 'typeorm'
import type { Log } from './log.ts'
import type { Outbox } from './outbox.ts'

/** What a service's code is given to work with. */
export interface ServiceContext {
  /** Connected later, and perhaps again: ask it for repositories when they are needed. */
  dataSource: DataSource
  outbox: Outbox
  /** For what people ask and change by HTTP: connections of its own, which give up soon. */
  requests: { dataSource: DataSource; outbox: Outbox }
  log: Log
}

/** A loop beside the endpoint. */
export interface Worker {
  start(): void
  stop(): Promise<void>
}

/** A loop beside the endpoint. */
export interface Worker {
  start(): void
  stop(): Promise<void>
}

// `sagabox`: what services are written with.
export { Access, type AccessOptions } from './access/access.ts'
export type { Actor } from './access/actor.ts'
export { UnguardedRoute } from './access/guard.ts'
export { InvalidKeyFile } from './access/key-file.ts'
export type { OidcOptions } from './access/oidc.ts'
export { UnknownRole, type RoleTable } from './access/roles.ts'
export { CannotStart } from './cannot-start.ts'
export { consoleServices, InvalidConsoleServices } from './console/peers.ts'
export type { ConsoleOptions } from './console/routes.ts'
export type { Log } from './messaging/async/log.ts'
export type { Worker } from './messaging/async/worker.ts'
export { NotAllowed } from './messaging/dead-letters/known-letter.ts'
export { DeadlyMessage } from './messaging/endpoint/suspects.ts'
export type { Concurrency } from './messaging/endpoint/endpoint.ts'
export {
  handle,
  handleBatch,
  NoAnswer,
  type Handler,
  type Handling,
  type Returned
} from './messaging/endpoint/handler.ts'
export { DatabaseAway } from './messaging/errors/database-away.ts'
export { SagaboxError } from './messaging/errors/sagabox-error.ts'
export { MessageIdReused } from './messaging/inbox/inbox.ts'
export { NotRetryable, Refused, type RetryPolicy } from './messaging/inbox/retry.ts'
export type { Composed } from './messaging/message/composed.ts'
export { InvalidContract } from './messaging/message/contract-rules.ts'
export { idOfKey } from './messaging/message/correlation.ts'
export { UnknownMessageType, UnreadableMessage } from './messaging/message/envelope.ts'
export { foreign, type ForeignOptions } from './messaging/message/foreign.ts'
export { faultOf } from './messaging/message/fault.ts'
export {
  command,
  event,
  message,
  type BodyOf,
  type Cause,
  type CommandOptions,
  type Contract,
  type ContractOptions,
  type EventNaming,
  type EventOptions,
  type ExchangeType,
  type Foreign,
  type Message,
  type Naming,
  type NewMessage,
  type CallableContract,
  type CallableRequest,
  type RequestContract
} from './messaging/message/message.ts'
export { InvalidDuration } from './messaging/message/duration.ts'
export { AskedInTransaction } from './messaging/message/asked.ts'
export { InvalidToken, type LaterOptions } from './messaging/message/later.ts'
export { contracts, type Contracts, type ContractsOptions } from './messaging/message/contracts.ts'
export { InvalidMessage } from './messaging/message/validate.ts'
export { NowhereToSend, type Outbox } from './messaging/outbox/outbox.ts'
export { NotInTransaction, type Connection } from './messaging/outbox/own-connection.ts'
export type { Database } from './messaging/postgres/database.ts'
export {
  MigrationEdited,
  MigrationFailed,
  MigrationsPending,
  type MigrateMode
} from './messaging/postgres/migrate.ts'
export type { RequestOptions } from './messaging/request/client.ts'
export {
  RequestAborted,
  RequestFailed,
  RequestNotSent,
  RequestTimedOut,
  UnexpectedAnswer,
  type RemoteException
} from './messaging/request/errors.ts'
export { UnfitSession } from './messaging/postgres/server.ts'
export { Swallowed, type TransactionOptions, type Tx } from './messaging/postgres/sql.ts'
export type { Queries } from './messaging/postgres/user-query.ts'
export { DatabaseUrlError } from './messaging/postgres/url.ts'
export { Unreachable } from './messaging/rabbitmq/connection.ts'
export type { ServerTls } from './http/tls.ts'
export { InvalidTls } from './messaging/errors/invalid-tls.ts'
export type { BrokerTls } from './messaging/rabbitmq/tls.ts'
export { TopologyMissing } from './messaging/rabbitmq/topology-missing.ts'
export { RabbitTransport, type RabbitTransportOptions } from './messaging/rabbitmq/transport.ts'
export { MemoryTransport } from './messaging/transport/memory.ts'
export type {
  EndpointElsewhere,
  EndpointTopology,
  ForeignBinding,
  ForeignExchange,
  Topology
} from './messaging/transport/topology.ts'
export {
  PublishInterrupted,
  PublishRefused,
  type Answers,
  type Delivery,
  type PublishOutcome,
  type Subscription,
  type Transport,
  type TransportMessage
} from './messaging/transport/transport.ts'
export {
  defer,
  END,
  ignore,
  InvalidSaga,
  sagaActions,
  send,
  type Effect,
  type PendingTimer,
  type SagaChange,
  type SagaDefinition,
  type SagaSnapshot,
  type Send,
  type SendOptions
} from './saga/define.ts'
export type { SagaOptions } from './saga/saga.ts'
export { defineSaga, type ExtraTransition, type StepsOptions } from './saga/steps/define-saga.ts'
export type {
  All,
  Duration,
  GivenUp,
  Patience,
  Says,
  Step,
  StepOptions,
  StepTools
} from './saga/steps/step.ts'
export type { Action, State, States, Tools, Transition, Transitions } from './saga/build-machine.ts'
export { startConsole, type OwnConsole, type OwnConsoleOptions } from './service/console.ts'
export { startSagabox, type Sagabox, type SagaboxOptions } from './service/start.ts'
export * as Type from './messaging/message/type.ts'
export type { AppOptions } from './http/app.ts'
export { pathOf, statusOf } from './saga/machine/state.ts'
export type { SagaDetail, SagaStep, WaitingFor } from './saga/inspect/inspect.ts'
export type { LastError } from './saga/store/rows.ts'
export { NotMoved } from './saga/run/by-hand.ts'
export type { SagaEvent } from './saga/machine/step.ts'
export { NoInstance, NotStartedYet, type SagaHost, type SagaMove } from './saga/run/host.ts'
export { Stranded } from './saga/run/versions.ts'
export type { ServiceConnections, ServiceContext } from './service/context.ts'
export {
  defineService,
  InvalidService,
  systemTopology,
  type ServiceDefinition,
  type ServiceOptions,
  type ServiceParts
} from './service/define.ts'
export { brokerRights, type BrokerRights } from './service/broker-rights.ts'
export { becameReady } from './service/ready.ts'
export type { Service, ServiceSettings } from './service/service.ts'
export { System, type SystemOptions } from './service/system.ts'
export { startWatchdog } from './service/watchdog.ts'

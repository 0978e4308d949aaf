export declare function findRabbitMQ(): string | undefined
export declare function ensureRabbitMQ(): string

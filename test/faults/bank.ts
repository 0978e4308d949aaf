import type { Scope } from '../support/program.ts'
import { StripeStandIn, type LedgerEntry } from '../support/stripe-stand-in.ts'

/** A payment gateway as one run sees it. */
export interface Account {
  environment: Record<string, string>
  /** What was charged and given back since the run began. */
  ledger(): LedgerEntry[]
}

/** Payment gateways in processes of their own, each lent to one run at a time. */
export class Bank {
  readonly #scope: Scope
  readonly #idle: StripeStandIn[] = []

  /** @param scope of all runs */
  constructor(scope: Scope) {
    this.#scope = scope
  }

  /** @param scope of the run; torn down when none of its processes is left */
  async open(scope: Scope): Promise<Account> {
    const gateway = this.#idle.pop() ?? (await StripeStandIn.start(this.#scope))
    scope.teardown(() => this.#idle.push(gateway))
    const before = gateway.readLedger().length
    return { environment: gateway.environment, ledger: () => gateway.readLedger().slice(before) }
  }
}

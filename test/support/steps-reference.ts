// What a saga in steps is meant to do, said once more and otherwise: no machine, no transitions.
import {
  nameOfStep,
  numbersOf,
  UNDO_AGAIN_MS,
  type SagaSpec,
  type StepSpec
} from './random-steps.ts'

const LONGEST_PAUSE_MS = 15 * 60_000

type Happened = 'done' | 'refused' | 'undone'

export class StepsReference {
  /** As the saga's states are called. */
  state = ''
  /** Names of what it sends, since it was last emptied. */
  sent: string[] = []
  readonly #spec: SagaSpec
  readonly #steps: readonly StepSpec[]
  readonly #stages: readonly number[][]
  readonly #wanted: ReadonlySet<number>
  #now = 0
  #stage = 0
  #undoing: number | undefined
  readonly #waiting = new Set<number>()
  readonly #standing = new Set<number>()
  readonly #early: number[] = []
  #isHearing = false
  #hasTold = false
  #sagaDue: number
  /** When what is waited for is asked for again, or given up. */
  #due = Infinity
  #asks = 0

  constructor(spec: SagaSpec, wanted: readonly number[]) {
    this.#spec = spec
    this.#stages = numbersOf(spec)
    this.#steps = spec.stages.flatMap(({ steps }) => steps)
    this.#wanted = new Set(wanted)
    this.#sagaDue = spec.within ?? Infinity
    this.#ask(0)
  }

  get isDoing(): boolean {
    return this.state.startsWith('doing.')
  }

  get isEnded(): boolean {
    return this.state === 'completed' || this.state === 'failed'
  }

  hear(happened: Happened, step: number): void {
    if (happened === 'done') this.#done(step)
    else if (happened === 'refused') {
      if (this.isDoing && this.#waiting.has(step)) this.#giveUp(step)
    } else if (this.#undoing === step) {
      this.#standing.delete(step)
      this.#undoNext()
    }
  }

  cancel(): void {
    const { cancelBy, cancelCompleted } = this.#spec
    if (cancelBy === undefined) return
    if (this.isDoing || (cancelCompleted && this.state === 'completed')) this.#giveUp()
  }

  extra(): void {
    if (this.isDoing) this.#giveUp()
  }

  advance(ms: number): void {
    const end = this.#now + ms
    for (;;) {
      const due = Math.min(this.#due, this.isDoing ? this.#sagaDue : Infinity)
      if (due > end) break
      this.#now = due
      if (this.#undoing !== undefined) this.#undoAgain(this.#undoing)
      else if (due === this.#due) this.#askAgain()
      else this.#giveUp()
    }
    this.#now = end
  }

  #done(step: number): void {
    const { isUndoable } = this.#steps[step]!
    if (this.isDoing && this.#waiting.has(step)) {
      this.#waiting.delete(step)
      if (this.#waiting.size === 0) this.#ask(this.#stage + 1)
    } else if (this.isDoing && this.#stageOf(step) > this.#stage) {
      if (isUndoable) this.#early.push(step)
    } else if (this.isDoing || this.state === 'completed') {
      // Left out, and done by somebody.
      if (isUndoable && !this.#standing.has(step)) this.sent.push(`Undo${step}`)
    } else if (isUndoable) {
      this.#standing.add(step)
      if (this.#undoing === step) this.sent.push(`Undo${step}`)
      else if (this.state === 'failed') this.#undoNext()
    }
  }

  #ask(stage: number): void {
    this.#stage = stage
    this.#due = Infinity
    const numbers = this.#stages[stage]
    if (!numbers) {
      this.sent.push('Completed')
      return this.#be('completed')
    }
    const asked = numbers.filter(
      (step) => !this.#steps[step]!.isConditional || this.#wanted.has(step)
    )
    if (asked.length === 0) return this.#ask(stage + 1)
    for (const step of asked) {
      this.#waiting.add(step)
      if (this.#steps[step]!.isUndoable) this.#standing.add(step)
      this.sent.push(`Do${step}`)
    }
    const { within } = this.#spec.stages[stage]!
    this.#asks = 0
    this.#due = within === undefined ? Infinity : this.#now + within
    const [first, ...more] = numbers.map(nameOfStep)
    this.#be(`doing.${[first, ...more.map((name) => `And${name.toUpperCase()}`)].join('')}`)
  }

  #askAgain(): void {
    const { within, retry } = this.#spec.stages[this.#stage]!
    if (this.#asks === retry) return this.#giveUp()
    this.#due = this.#now + this.#pause(within!)
    for (const step of this.#inOrder(this.#waiting)) this.sent.push(`Do${step}`)
  }

  #giveUp(refused?: number): void {
    this.#waiting.clear()
    if (refused !== undefined) this.#standing.delete(refused)
    this.#undoNext()
  }

  #undoNext(): void {
    this.#undoing = this.#inOrder(this.#standing).at(-1)
    this.#due = Infinity
    if (this.#undoing !== undefined) {
      this.sent.push(`Undo${this.#undoing}`)
      this.#asks = 0
      this.#due = this.#now + UNDO_AGAIN_MS
      return this.#be(`undoing.${nameOfStep(this.#undoing)}`)
    }
    if (!this.#hasTold) this.sent.push('Failed')
    this.#hasTold = true
    this.#be('failed')
  }

  #undoAgain(step: number): void {
    this.sent.push(`Undo${step}`)
    this.#due = this.#now + this.#pause(UNDO_AGAIN_MS)
  }

  #pause(ms: number): number {
    this.#asks++
    return Math.min(ms * 2 ** this.#asks, LONGEST_PAUSE_MS)
  }

  /** What came early is heard wherever the saga comes to, until it is its turn. */
  #be(state: string): void {
    if (state === this.state) return
    this.state = state
    if (this.#isHearing) return
    this.#isHearing = true
    for (let index = 0; index < this.#early.length;) {
      const [step] = this.#early.splice(index, 1)
      const { length } = this.#early
      const before = this.state
      this.#done(step!)
      if (this.#early.length > length) this.#early.splice(index++, 0, this.#early.pop()!)
      else if (this.state !== before) index = 0
    }
    this.#isHearing = false
  }

  #inOrder(steps: ReadonlySet<number>): number[] {
    return [...steps].toSorted((a, b) => a - b)
  }

  #stageOf(step: number): number {
    return this.#stages.findIndex((numbers) => numbers.includes(step))
  }
}

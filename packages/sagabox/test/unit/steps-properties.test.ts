// Random sagas in steps, and random things that happen to them: beside a reference, and by what
// must be in effect in the end. SEED and RUNS repeat a run, or make it longer.
import { equal, ok } from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import {
  Cancelled,
  Completed,
  Extra,
  Failed,
  nameOfStep,
  numbersOf,
  OF_STEPS,
  sagaOf,
  sagaSpecs,
  Started,
  type SagaSpec
} from '../../../../test/support/random-steps.ts'
import { StepsReference } from '../../../../test/support/steps-reference.ts'
import type { Message } from '../../src/messaging/message/message.ts'
import { checkSaga } from '../../src/saga/inspect/check.ts'
import { tell, type Story } from '../../src/testing/story.ts'

const SEED = Number(process.env.SEED ?? Date.now() % 2 ** 31)
const RUNS = Number(process.env.RUNS ?? 150)
t.setTimeout(60_000 + RUNS * 100)

const id = '01a204b8-b63e-7263-8cc6-45323f1f4dcf'
const ALL = OF_STEPS.map((_, step) => step)

/** A saga, its reference, and the suppliers that do what it says, in whatever order they hear it. */
class World {
  readonly effects = new Set<number>()
  #story: Story
  readonly #spec: SagaSpec
  readonly #reference: StepsReference
  readonly #wanted: readonly number[]
  /** On their way to the suppliers, and back. */
  readonly #commands: string[] = []
  readonly #answers: Message[] = []
  readonly #asked = new Set<number>()
  readonly #told: string[] = []
  #undos = 0

  constructor(spec: SagaSpec, wanted: readonly number[]) {
    this.#spec = spec
    this.#wanted = wanted
    this.#reference = new StepsReference(spec, wanted)
    this.#story = tell(sagaOf(spec)).when(Started({ id, wanted: [...wanted] }))
    this.#look()
  }

  happen(what: number, which: number): void {
    const all = [
      () => this.#carryOut(which, which % 4 === 0),
      () => this.#carryOut(which, which % 4 === 0),
      () => this.#answer(which, true),
      () => this.#answer(which, true),
      () => this.#answer(which, false),
      () => this.#advance([1007, 3001, 10_007, 60_013][which % 4]!),
      () => this.#cancel(which),
      () => this.#surprise(which)
    ]
    all[what % all.length]!()
  }

  /** Everything arrives, as late as may be, until nothing is under way. */
  settle(): void {
    for (let round = 0; round < 500; round++) {
      if (this.#commands.length > 0) this.#carryOut(0, false)
      else if (this.#answers.length > 0) this.#answer(0, true)
      else if (this.#reference.isEnded) return
      else this.#advance(60_013)
    }
    throw new Error(`It does not come to an end: ${this.#story.state}`)
  }

  /** What must be true when all is said and done. */
  judge(): void {
    const numbers = numbersOf(this.#spec).flat()
    const steps = this.#spec.stages.flatMap(({ steps: some }) => some)
    const isCompleted = this.#story.state === 'completed'
    // Its history leads to the same state again.
    this.#story.then(this.#story.state)
    for (const step of numbers) {
      const { isConditional, isUndoable } = steps[step]!
      const isWanted = !isConditional || this.#wanted.includes(step)
      if (isUndoable)
        equal(
          this.effects.has(step),
          isCompleted && isWanted,
          `${nameOfStep(step)} ${this.effects.has(step) ? 'is' : 'is not'} in effect, ${this.#story.state}`
        )
      else if (isCompleted && isWanted)
        ok(this.effects.has(step), `${nameOfStep(step)} was never done, and it is completed`)
    }
    const tells = (name: string) => this.#told.filter((told) => told === name).length
    equal(tells('Failed'), isCompleted ? 0 : 1, 'it tells once that it failed')
    equal(
      tells('Completed'),
      isCompleted ? 1 : tells('Completed'),
      'it tells once that it completed'
    )
    if (tells('Completed') > 0 && !isCompleted) ok(this.#spec.cancelCompleted)
    if (isCompleted && steps.every(({ isConditional }) => !isConditional))
      equal(this.#undos, 0, 'nothing is undone of what completes')
  }

  #carryOut(which: number, mayRefuse: boolean): void {
    const command = take(this.#commands, which)
    if (command === undefined) return
    const step = Number(command.at(-1))
    const { Done, Refused, Undone } = OF_STEPS[step]!
    const { isRefusable } = this.#spec.stages.flatMap(({ steps }) => steps)[step]!
    if (command.startsWith('Undo')) {
      this.effects.delete(step)
      this.#answers.push(Undone({ id }))
    } else if (isRefusable && mayRefuse && !this.effects.has(step))
      this.#answers.push(Refused({ id, reason: 'no' }))
    else {
      this.effects.add(step)
      this.#answers.push(Done({ id }))
    }
  }

  /** @param isLast whether no copy of it is to come */
  #answer(which: number, isLast: boolean): void {
    const answer = isLast ? take(this.#answers, which) : this.#answers[which % this.#answers.length]
    if (!answer) return
    const { name } = answer.contract
    const step = Number(name.at(-1))
    // A copy under an id of its own: the inbox would drop another.
    const { Done, Refused, Undone } = OF_STEPS[step]!
    if (name.startsWith('Refused')) this.#hear('refused', step, Refused({ id, reason: 'no' }))
    else if (name.startsWith('Done')) this.#hear('done', step, Done({ id }))
    else this.#hear('undone', step, Undone({ id }))
  }

  #hear(happened: 'done' | 'refused' | 'undone', step: number, message: Message): void {
    if (happened === 'done') this.#asked.add(step)
    this.#reference.hear(happened, step)
    this.#story = this.#story.when(message)
    this.#look()
  }

  #advance(ms: number): void {
    this.#reference.advance(ms)
    this.#story = this.#story.advance(ms)
    this.#look()
  }

  #cancel(which: number): void {
    const { cancelBy, hasExtra } = this.#spec
    if (hasExtra && which % 2 === 0) {
      this.#reference.extra()
      this.#story = this.#story.when(Extra({ id }))
    } else if (cancelBy !== undefined) {
      this.#reference.cancel()
      this.#story = this.#story.when(cancelBy === 'event' ? Cancelled({ id }) : { type: 'Cancel' })
    }
    this.#look()
  }

  /** A supplier does what nobody has asked for, before or after its turn. */
  #surprise(which: number): void {
    const numbers = numbersOf(this.#spec).flat()
    const step = numbers[which % numbers.length]!
    this.effects.add(step)
    this.#answers.push(OF_STEPS[step]!.Done({ id }))
  }

  #look(): void {
    const sent = this.#story.sent.map(({ contract }) => contract.name)
    equal(this.#story.state, this.#reference.state)
    equal(sent.join(), this.#reference.sent.join(), this.#story.state)
    const { note } = this.#story.history.at(-1)!
    ok(!note?.startsWith('undecided'), note ?? '')
    for (const name of sent) {
      const step = Number(name.at(-1))
      if (name.startsWith('Do')) this.#asked.add(step)
      if (name.startsWith('Undo')) {
        ok(this.#asked.has(step), `${name}, and it was neither asked for nor done`)
        this.#undos++
      }
      if (name === Completed.name || name === Failed.name) this.#told.push(name)
      else this.#commands.push(name)
    }
    this.#reference.sent = []
    this.#story = this.#story.forget()
  }
}

function take<T>(from: T[], which: number): T | undefined {
  return from.splice(which % Math.max(from.length, 1), 1)[0]
}

const lives = fc.record({
  spec: sagaSpecs,
  wanted: fc.subarray(ALL),
  happenings: fc.array(fc.tuple(fc.nat(7), fc.nat(20)), { maxLength: 40 })
})

t.test(`whatever happens, nothing is left half done (SEED=${SEED})`, async (t) => {
  fc.assert(
    fc.property(lives, ({ spec, wanted, happenings }) => {
      const world = new World(spec, wanted)
      for (const [what, which] of happenings) world.happen(what, which)
      world.settle()
      world.judge()
    }),
    { seed: SEED, numRuns: RUNS }
  )
  t.pass()
})

t.test(`checkSaga finds nothing in any of them (SEED=${SEED})`, async (t) => {
  fc.assert(
    fc.property(sagaSpecs, (spec) => {
      const found = checkSaga(sagaOf(spec), {
        samples: { Started: [ALL, []].map((wanted) => ({ id, wanted })) }
      })
      equal(found.join('\n'), '')
    }),
    { seed: SEED, numRuns: Math.ceil(RUNS / 30) }
  )
  t.pass()
})

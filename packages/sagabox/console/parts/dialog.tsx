import { signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Problem } from '../ask.ts'
import { Badge } from './says.tsx'

/** Something that changes what runs: asked before it is done, with a reason. */
export interface Deed {
  title: string
  /** What will happen, in words. */
  tells: ComponentChildren
  /** What the button says. */
  verb: string
  isHarmful?: boolean
  /** More to fill in. */
  fields?: ComponentChildren
  /** Does it. @returns what came of it */
  act(why: string): Promise<string>
  /** After it was done. */
  after?: (() => void) | undefined
}

const asked = signal<Deed | undefined>(undefined)
/** What was done last, as the API said it. */
export const done = signal('')
let doneAt = 0

/** Says what was done, also on the place that it leads to. */
export function say(text: string): void {
  done.value = text
  doneAt = Date.now()
}

/** Whoever goes on has read it. */
export function forget(): void {
  if (Date.now() - doneAt > 1000) done.value = ''
}

/** Opens the dialog; nothing is done before somebody confirms it there. */
export function confirm(deed: Deed): void {
  asked.value = deed
}

/** The one dialog of the page. */
export function Dialog() {
  const deed = asked.value
  const element = useRef<HTMLDialogElement>(null)
  const [why, setWhy] = useState('')
  const [problem, setProblem] = useState<Problem>()
  const [isBusy, setBusy] = useState(false)
  useEffect(() => {
    if (!deed) return
    setWhy('')
    setProblem(undefined)
    element.current?.showModal()
  }, [deed])
  if (!deed) return null
  const close = () => {
    element.current?.close()
    asked.value = undefined
  }
  const act = async (event: Event) => {
    event.preventDefault()
    if (isBusy) return
    setBusy(true)
    try {
      say(await deed.act(why.trim()))
      close()
      deed.after?.()
    } catch (error) {
      setProblem(error instanceof Problem ? error : new Problem(0, String(error)))
    } finally {
      setBusy(false)
    }
  }
  return (
    <dialog ref={element} aria-labelledby="deed" onClose={() => (asked.value = undefined)}>
      <form onSubmit={(event) => void act(event)}>
        <header class="head">
          <h2 id="deed">{deed.title}</h2>
          <Badge />
        </header>
        <div>{deed.tells}</div>
        {deed.fields}
        <label for="why">Why? It stands in the history and in the audit.</label>
        <textarea
          id="why"
          rows={2}
          maxLength={500}
          required
          value={why}
          onInput={(event) => setWhy(event.currentTarget.value)}
        />
        {problem ? (
          <div class="says problem" role="alert">
            {problem.isMissingRoute ? 'This service has no way to do that here.' : problem.message}
            {problem.fields.length > 0 ? (
              <ul>
                {problem.fields.map(({ field, expected }) => (
                  <li key={field}>
                    <code>{field}</code> {expected}
                  </li>
                ))}
              </ul>
            ) : null}
          </div>
        ) : null}
        <p class="buttons">
          <button
            class={deed.isHarmful ? 'harmful' : 'main'}
            disabled={isBusy || why.trim() === ''}
          >
            {isBusy ? 'Working …' : deed.verb}
          </button>
          <button type="button" onClick={close}>
            Back
          </button>
        </p>
      </form>
    </dialog>
  )
}

/** What was done, for a while, also for those who listen. */
export function Done() {
  return (
    <div role="status" class={done.value ? 'done' : ''}>
      {done.value ? (
        <>
          {done.value}{' '}
          <button type="button" class="plain" onClick={() => (done.value = '')}>
            Close
          </button>
        </>
      ) : null}
    </div>
  )
}

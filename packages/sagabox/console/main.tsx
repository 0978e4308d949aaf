// oxlint-disable-next-line import/no-unassigned-import -- the bundler makes a file of it
import './style.css'
import { render } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { ask, askPage, lostSince, peerKeys, Problem } from './ask.ts'
import { now } from './clock.ts'
import { isHelpOpen, KEYS } from './keys.ts'
import { Dialog, Done, forget } from './parts/dialog.tsx'
import { Badge, Loading } from './parts/says.tsx'
import { at, go, linkTo, place } from './place.ts'
import { Audit } from './screens/audit.tsx'
import { Contracts } from './screens/contracts.tsx'
import { Letter } from './screens/letter.tsx'
import { Letters } from './screens/letters.tsx'
import { Message } from './screens/message.tsx'
import { Overview } from './screens/overview.tsx'
import { Saga } from './screens/saga.tsx'
import { Sagas } from './screens/sagas.tsx'
import { Search } from './screens/search.tsx'
import { Versions } from './screens/versions.tsx'
import { surroundings } from './services.ts'
import type { ServiceInfo, Surroundings } from './types.ts'
import { LIST_MS, useWatched } from './watch.ts'

const SCREENS: Record<
  string,
  { title: string; Screen: () => preact.JSX.Element; inMenu?: boolean }
> = {
  overview: { title: 'Overview', Screen: Overview, inMenu: true },
  sagas: { title: 'Sagas', Screen: Sagas, inMenu: true },
  saga: { title: 'Saga', Screen: Saga },
  letters: { title: 'Dead letters', Screen: Letters, inMenu: true },
  letter: { title: 'Dead letter', Screen: Letter },
  message: { title: 'Message', Screen: Message },
  versions: { title: 'Versions', Screen: Versions, inMenu: true },
  contracts: { title: 'Contracts', Screen: Contracts, inMenu: true },
  audit: { title: 'Audit', Screen: Audit, inMenu: true },
  search: { title: 'Search', Screen: Search }
}
/** What a screen of one thing is part of. */
const WITHIN: Record<string, string> = { saga: 'sagas', letter: 'letters' }

function App() {
  const keys = peerKeys.value
  const around = useWatched(`services ${Object.keys(keys).join()}`, lookAround, LIST_MS * 2)
  useEffect(() => {
    if (around.value) surroundings.value = around.value
  }, [around.value])
  const view = Object.hasOwn(SCREENS, at('view')) ? at('view') : 'overview'
  const { title, Screen } = SCREENS[view]!
  const main = useRef<HTMLElement>(null)
  const where = `${view} ${at('id')}`
  useEffect(() => {
    document.title = [at('id'), title, surroundings.value?.label, 'Sagabox']
      .filter(Boolean)
      .join(' · ')
    forget()
  }, [where, surroundings.value])
  const wasAt = useRef(where)
  useEffect(() => {
    if (wasAt.current !== where) main.current?.focus()
    wasAt.current = where
  }, [where])
  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => (event.preventDefault(), main.current?.focus())}
      >
        To the content
      </a>
      <Top view={view} />
      <Lost problem={around.problem} />
      <main id="main" ref={main} tabIndex={-1}>
        <Done />
        {surroundings.value ? <Screen /> : around.problem ? null : <Loading what="services" />}
      </main>
      <Dialog />
      <Help />
    </>
  )
}

/** Services, with those asked again for which somebody gave a key. */
async function lookAround(): Promise<Surroundings> {
  const found = await askPage<Surroundings>('api/services')
  const withKey = async (service: ServiceInfo): Promise<ServiceInfo> => {
    if (!service.reachable || service.error === null || peerKeys.value[service.name] === undefined)
      return service
    return ask<{ items: { name: string }[] }>(service.name, '/sagas/definitions').then(
      ({ items }) => ({ ...service, error: null, sagas: items.map(({ name }) => name) }),
      (error: Problem) =>
        error.status === 404 ? { ...service, error: null } : { ...service, error: error.message }
    )
  }
  return { ...found, services: await Promise.all(found.services.map(withKey)) }
}

function Top({ view }: { view: string }) {
  const found = surroundings.value
  const field = useRef<HTMLInputElement>(null)
  const q = view === 'search' ? at('q') : ''
  return (
    <header class="top">
      <a class="name" href="?view=overview">
        Sagabox
      </a>
      <Badge />
      <nav aria-label="Screens">
        {Object.entries(SCREENS)
          .filter(([, { inMenu }]) => inMenu)
          .map(([name, { title }]) => (
            <a
              key={name}
              href={linkTo({ view: name })}
              aria-current={name === (WITHIN[view] ?? view) ? 'page' : undefined}
            >
              {title}
            </a>
          ))}
      </nav>
      <form
        role="search"
        onSubmit={(event) => {
          event.preventDefault()
          const text = field.current?.value.trim() ?? ''
          if (text !== '') go(linkTo({ view: 'search', q: text }))
          field.current?.blur()
        }}
      >
        <label class="hidden-visually" for="search">
          Search by any id or key
        </label>
        <input
          id="search"
          ref={field}
          type="search"
          key={q}
          defaultValue={q}
          placeholder="Any id or key  ( / )"
          maxLength={300}
        />
      </form>
      <div class="you">
        {found?.you.signedIn ? (
          <form method="post" action="sign-out">
            <span title={found.you.roles.join(', ')}>{found.you.name}</span>{' '}
            <button class="plain">Sign out</button>
          </form>
        ) : null}
        <button
          type="button"
          class="plain"
          aria-label="Keys"
          title="Keys: ?"
          onClick={() => (isHelpOpen.value = true)}
        >
          ?
        </button>
      </div>
    </header>
  )
}

/** Nothing on the page is renewed: said once, for all of it. */
function Lost({ problem }: { problem: Problem | undefined }) {
  const since = lostSince.value
  if (since !== undefined)
    return (
      <p class="lost-all" role="alert">
        The server of this page cannot be reached since {new Date(since).toLocaleTimeString()} (
        {Math.round((now.value - since) / 1000)} s). What is shown is from before.
      </p>
    )
  if (problem?.status === 401)
    return (
      <p class="lost-all" role="alert">
        You are not signed in any more.{' '}
        <a href={place.value.size > 0 ? `./?${place.value.toString()}` : './'}>Sign in</a>
      </p>
    )
  return problem ? (
    <p class="lost-all" role="alert">
      {problem.message}
    </p>
  ) : null
}

function Help() {
  const element = useRef<HTMLDialogElement>(null)
  const isOpen = isHelpOpen.value
  useEffect(() => {
    if (isOpen) element.current?.showModal()
  }, [isOpen])
  if (!isOpen) return null
  const close = () => {
    element.current?.close()
    isHelpOpen.value = false
  }
  return (
    <dialog ref={element} aria-labelledby="help" onClose={() => (isHelpOpen.value = false)}>
      <h2 id="help">Keys</h2>
      <dl>
        {KEYS.map(([key, what]) => (
          <>
            <dt>
              <kbd>{key}</kbd>
            </dt>
            <dd>{what}</dd>
          </>
        ))}
      </dl>
      <p class="buttons">
        <button type="button" onClick={close}>
          Back
        </button>
      </p>
    </dialog>
  )
}

const root = document.querySelector('#app')!
root.replaceChildren()
render(<App />, root)

import { createHash } from 'node:crypto'
import type { Actor } from './actor.ts'

const STYLE = `
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 32rem; margin: 4rem auto; padding: 0 1rem }
input { width: 100%; box-sizing: border-box; font: inherit; padding: .5rem; margin: .25rem 0 1rem }
button, a.button { font: inherit; padding: .5rem 1rem }
[role=alert] { color: light-dark(#a00, #f88) }
`

/** Nothing runs on the page, nothing is loaded by it, and no other page shows it. */
export const PAGE_POLICY = [
  `default-src 'none'`,
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  `form-action 'self'`,
  `frame-ancestors 'none'`,
  `base-uri 'none'`
].join('; ')

export interface PageState {
  readonly actor: Actor
  readonly isOpen: boolean
  readonly takesKeys: boolean
  readonly takesProvider: boolean
  /** Query of the page that was asked for: `?view=sagas`, or nothing. */
  readonly search: string
  /** Why somebody could not sign in. */
  readonly problem?: string
}

/** Says who you are, and lets you sign in and out. */
export function consolePage(state: PageState): string {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sagabox</title><style>${STYLE}</style></head>
<body>
<main>
<h1>Sagabox</h1>
${state.problem === undefined ? '' : `<p role="alert">${escaped(state.problem)}</p>`}
${state.isOpen ? OPEN : state.actor.kind === 'anonymous' ? signIn(state) : signedIn(state.actor)}
<p><a href="../docs/">The API and its routes</a></p>
</main>
</body>
</html>
`
}

const OPEN =
  '<p>Nobody is asked who they are here: everybody who can reach this page may do everything.</p>'

function signedIn({ name, roles }: Actor): string {
  return `<p>You are <strong>${escaped(name)}</strong>, ${escaped(roles.join(', ') || 'without a role')}.</p>
<form method="post" action="sign-out"><button>Sign out</button></form>`
}

function signIn({ takesKeys, takesProvider, search }: PageState): string {
  const byProvider = `<p><a class="button" href="sign-in/provider${escaped(search)}">Sign in</a></p>`
  const byKey = `<form method="post" action="sign-in${escaped(search)}">
<label for="key">Key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required maxlength="200">
<button>Sign in with a key</button>
</form>`
  return `<p>You are not signed in.</p>${takesProvider ? byProvider : ''}${takesKeys ? byKey : ''}`
}

function escaped(text: string): string {
  return text.replaceAll(/[&<>"']/g, (found) => `&#${found.codePointAt(0)};`)
}

import { useState } from 'preact/hooks'
import { peerKeys } from '../ask.ts'

/** A service elsewhere that does not know who signed in here: a key for it alone can be given. */
export function PeerKey({ service, error }: { service: string; error: string }) {
  const [key, setKey] = useState('')
  const id = `key-${service}`
  return (
    <form
      class="says problem"
      onSubmit={(event) => {
        event.preventDefault()
        peerKeys.value = { ...peerKeys.value, [service]: key.trim() }
      }}
    >
      <p>
        {service} does not know who signed in here ({error}). A key for it, kept until this page is
        closed:
      </p>
      <label for={id}>Key of {service}</label>
      <input
        id={id}
        type="password"
        autocomplete="off"
        maxLength={4096}
        required
        value={key}
        onInput={(event) => setKey(event.currentTarget.value)}
      />
      <button>Use it</button>
    </form>
  )
}

import type { JSX } from 'preact'
import { at } from '../place.ts'
import { isReached, services } from '../services.ts'
import { Head, Tabs } from './says.tsx'

/**
 * A screen of one service at a time: the one that the address names, else the first that is reached.
 * @param title where none is
 * @param show what is said of the service
 */
export function PerService({
  title,
  show
}: {
  title: string
  show: (service: string) => JSX.Element
}) {
  const names = services.value.filter(isReached).map(({ name }) => name)
  const service = names.includes(at('service')) ? at('service') : (names[0] ?? '')
  if (service === '') return <Head title={title} />
  return (
    <>
      <Tabs name="service" of={names} chosen={service} />
      {show(service)}
    </>
  )
}

import { computed, signal } from '@preact/signals'
import type { Problem } from './ask.ts'
import type { ServiceInfo, Surroundings } from './types.ts'

/** What is known of services and of who looks. */
export const surroundings = signal<Surroundings | undefined>(undefined)
export const surroundingsProblem = signal<Problem | undefined>(undefined)

export const services = computed(() => surroundings.value?.services ?? [])

/** Each saga with the service that has it. */
export const sagas = computed(() =>
  services.value.flatMap((service) =>
    service.sagas.map((saga) => ({ service: service.name, saga }))
  )
)

/** Whether who looks may do something here. */
export function may(permission: string): boolean {
  const found = surroundings.value
  return found !== undefined && !found.readOnly && found.you.may.includes(permission)
}

/** Whether a service was reached when it was last looked at. */
export function isReached({ reachable, error }: ServiceInfo): boolean {
  return reachable && error === null
}

// CPU time and memory of processes, from /proc (Linux).
import { readdirSync, readFileSync } from 'node:fs'

/** Ticks of CPU accounting a second: 100 on every Linux this runs on. */
const TICKS_PER_SECOND = 100

/** CPU ms used so far by a process and by its children, those that have ended included. */
export function cpuMs(pid: number): number {
  let ticks = 0
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const fields = statOf(Number(name))
    if (!fields) continue
    if (Number(name) === pid)
      ticks += fields.user + fields.system + fields.childUser + fields.childSystem
    else if (fields.parent === pid) ticks += fields.user + fields.system
  }
  return (ticks * 1000) / TICKS_PER_SECOND
}

/** Resident memory of a process, MB. */
export function rssMb(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024
}

/**
 * Ticks of all CPUs so far, and how many of them a hypervisor gave to other machines while this one
 * wanted them.
 */
export function machineTicks(): { stolen: number; all: number } {
  const fields = /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))![1]!.split(' ').map(Number)
  // What follows the eighth is counted in the first two already.
  return { stolen: fields[7]!, all: fields.slice(0, 8).reduce((sum, ticks) => sum + ticks, 0) }
}

function statOf(pid: number) {
  let text: string
  try {
    text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined // it ended between the listing and the look
  }
  const fields = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .map(Number)
  return {
    parent: fields[1]!,
    user: fields[11]!,
    system: fields[12]!,
    childUser: fields[13]!,
    childSystem: fields[14]!
  }
}

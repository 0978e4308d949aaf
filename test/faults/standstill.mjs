// Preloaded into the product's process: tells on its log for how long the event loop stood still,
// and how much CPU time the process took meanwhile: the rest others took from it. The product knows
// nothing of it. Plain Node, like the product it runs in.
import { performance } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const TICK_MS = 10
/** What is shorter is not told, ms. */
const SHORT_MS = 20

if (isMainThread) {
  let last = performance.now()
  let used = process.cpuUsage()
  setInterval(() => {
    const now = performance.now()
    const { user, system } = process.cpuUsage(used)
    const ms = Math.round(now - last) - TICK_MS
    const cpuMs = Math.round((user + system) / 1000)
    if (ms >= SHORT_MS)
      console.log(JSON.stringify({ msg: 'stood still', at: Date.now(), ms, cpuMs }))
    last = now
    used = process.cpuUsage()
  }, TICK_MS).unref()
}

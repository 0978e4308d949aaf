// Preloaded into the product's process: tells on its log for how long the event loop stood still. The product knows
// nothing of it. Plain Node, like the product it runs in.
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

const RESOLUTION_MS = 10
const LOOK_MS = 50
/** What is shorter is not told, ms. */
const SHORT_MS = 20

if (isMainThread) {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  setInterval(() => {
    const ms = Math.round(delay.max / 1e6) - RESOLUTION_MS
    delay.reset()
    if (ms >= SHORT_MS) console.log(JSON.stringify({ msg: 'stood still', at: Date.now(), ms }))
  }, LOOK_MS).unref()
}

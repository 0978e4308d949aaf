import { writeSync } from 'node:fs'
import { url as debuggerUrl } from 'node:inspector'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { progress } from '../messaging/async/progress.ts'

const TICK_MS = 250
/**
 * What the event loop says while a debugger is attached, which may stop it for as long as it likes.
 */
const DEBUGGED = -1

interface Watch {
  beats: Int32Array
  /** See progress.ts. */
  done: Int32Array
  seconds: number
}

/**
 * Ends this process by SIGKILL when its event loop stands still for so long and finishes nothing
 * meanwhile: a handler that never comes back would keep the process from everything, and its
 * messages from ever being recognised as deadly. Whoever runs the process starts it again. Time in
 * which the whole process was stopped or the machine asleep does not count.
 */
export function startWatchdog(seconds: number): void {
  const beats = new Int32Array(new SharedArrayBuffer(4))
  setInterval(
    () =>
      Atomics.store(
        beats,
        0,
        debuggerUrl() === undefined ? (Atomics.load(beats, 0) + 1) & 0xffff : DEBUGGED
      ),
    TICK_MS
  ).unref()
  new Worker(new URL(import.meta.url), {
    workerData: { beats, done: progress, seconds } satisfies Watch
  }).unref()
}

/**
 * Counts ticks of its own thread, not time: a thread that did not run has not seen the other stand
 * still.
 */
function watch({ beats, done, seconds }: Watch): void {
  let last = DEBUGGED
  let finished = 0
  let still = 0
  setInterval(() => {
    const beat = Atomics.load(beats, 0)
    const pieces = Atomics.load(done, 0)
    still = beat === last && beat !== DEBUGGED && pieces === finished ? still + 1 : 0
    last = beat
    finished = pieces
    if (still * TICK_MS < seconds * 1000) return
    // The streams of a worker go through the thread that stands still.
    writeSync(
      2,
      `The event loop has stood still for ${seconds} s: ending this process. A handler does not come back; its message is recognised after some restarts, see DeadlyMessage\n`
    )
    process.kill(process.pid, 'SIGKILL')
  }, TICK_MS)
}

if (!isMainThread) watch(workerData as Watch)

#!/usr/bin/env node
// `sagabox`, as a process: what package.json names as bin.
import { EXIT } from './command.ts'
import { run } from './run.ts'
import { Terminal } from './terminal.ts'

/**
 * A terminal's Ctrl-C arrives twice under npm, from the terminal and from npm: this close together,
 * ms, it is one.
 */
const SAME_SIGNAL_MS = 500

const interrupt = new AbortController()
let interruptedAt = Infinity
process.on('SIGINT', () => {
  // Whoever presses it twice means it.
  if (Date.now() - interruptedAt > SAME_SIGNAL_MS) process.exit(130)
  interruptedAt = Math.min(interruptedAt, Date.now())
  interrupt.abort()
})
// Such as `| head`, which has read enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  throw error
})

const terminal = new Terminal({ environment: process.env, interrupted: interrupt.signal })
process.exitCode = await run(process.argv.slice(2), terminal)

#!/usr/bin/env node
// `sagabox`, as a process: what package.json names as bin.
import { EXIT } from './command.ts'
import { run } from './run.ts'
import { Terminal } from './terminal.ts'

const interrupt = new AbortController()
process.once('SIGINT', () => {
  interrupt.abort()
  // Whoever presses it twice means it.
  process.once('SIGINT', () => process.exit(130))
})
// Such as `| head`, which has read enough.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok)
  throw error
})

const terminal = new Terminal({ environment: process.env, interrupted: interrupt.signal })
process.exitCode = await run(process.argv.slice(2), terminal)

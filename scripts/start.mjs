// `npm start`: prepares what is missing and runs the product in this process. Not npm's own
// `prestart`, which is left out where install scripts are switched off and by some other package
// managers: then an old build would run.
// oxlint-disable-next-line import/no-unassigned-import -- it ends the process, or does nothing
import './node-version.cjs'
import { readFileSync } from 'node:fs'
import { prepare } from './prepare.mjs'

// What can be answered at once is answered before anything is installed, as the product would
// (src/command-line.ts).
const args = process.argv.slice(2)
const read = (path) => readFileSync(new URL(path, import.meta.url), 'utf8')
const isConsole = args.length === 1 && args[0] === 'console'
const unknown = isConsole
  ? undefined
  : args.find((arg) => !['order', 'stock', 'payment'].includes(arg))
if (args.some((arg) => arg === '--help' || arg === '-h'))
  process.stdout.write(read('../config/usage.txt'))
else if (args.includes('--version')) console.log(JSON.parse(read('../package.json')).version)
else if (unknown !== undefined) {
  console.error(
    'Sagabox cannot start.\n' +
      (unknown.startsWith('-')
        ? `Unknown option ${unknown}: expected --help, --version or names of services. Settings are environment variables: npm start -- --help`
        : `Unknown service ${unknown}: expected any of order, stock, payment, console alone, or none for all. More: npm start -- --help`)
  )
  process.exitCode = unknown.startsWith('-') ? 2 : 1
} else {
  await prepare(true)
  await import('../dist/main.js')
}

// `node --import=./scripts/typescript.mjs`: runs the TypeScript of this repository, in tests and in
// what tests start. tsx does as much and more, for 3 s of CPU to load the services instead of 1 s:
// Node asks its hooks twice about each of 800 modules, and 680 of those are typebox, which is one
// here. Threads are of the product, and that is built.
import { register } from 'node:module'
import { isMainThread } from 'node:worker_threads'

if (isMainThread) register('./typescript-hooks.mjs', import.meta.url)

import { readdirSync, readFileSync } from 'node:fs'
import t from 'tap'
import { orderSaga } from '../../src/saga/order-saga.ts'
import { RecordingsCheck } from '../../packages/sagabox/src/saga/inspect/check-recordings.ts'
import { readRecording } from '../../packages/sagabox/src/saga/store/recording.ts'
import { scenarios } from '../support/scenario.ts'

const FOLDER = new URL('../histories/', import.meta.url)

// Orders as they happened, from every scenario: what is changed in the machine must move these
// still.
const files = readdirSync(FOLDER)
  .filter((file) => file.endsWith('.ndjson'))
  .toSorted()

for (const file of files) {
  t.test(file, (t) => {
    const lines = readFileSync(new URL(file, FOLDER), 'utf8').trimEnd().split('\n')
    const check = new RecordingsCheck(orderSaga(30))
    for (const line of lines) check.add(readRecording(line))
    const { instances, consistent, diverged, stranded } = check.report()
    t.same(
      { instances, consistent, diverged, stranded },
      { instances: lines.length, consistent: lines.length, diverged: [], stranded: [] }
    )
    t.end()
  })
}

t.test(
  'every scenario is recorded: RECORD_HISTORIES=1 npm test -- test/system/scenarios.memory.test.ts',
  (t) => {
    t.same(
      files.map((file) => file.replace('.ndjson', '.json')),
      scenarios().map(([file]) => file)
    )
    t.end()
  }
)

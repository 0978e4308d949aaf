import { writeFileSync } from 'node:fs'
import t from 'tap'
import { playScenario } from '../support/play-scenario.ts'
import { scenarios } from '../support/scenario.ts'

for (const [file, scenario] of scenarios()) {
  t.test(`${file}: ${scenario.title}`, async (t) => {
    const recorded = await playScenario(t, scenario, 'memory')
    // Refreshes what test/unit/histories.test.ts replays.
    if (process.env['RECORD_HISTORIES'])
      writeFileSync(
        new URL(`../histories/${file.replace('.json', '.ndjson')}`, import.meta.url),
        recorded
      )
  })
}

import t from 'tap'
import { playScenario } from '../support/play-scenario.ts'
import { scenarios } from '../support/scenario.ts'

for (const [file, scenario] of scenarios()) {
  t.test(
    `${file}: ${scenario.title}`,
    async (t) => void (await playScenario(t, scenario, 'rabbitmq'))
  )
}

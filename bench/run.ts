// `npm run bench`: see README.md in this folder.
import { parseArgs } from 'node:util'
import { againstLines, buildOther, versionOf, withOther } from './against.ts'
import { compare, type Run } from './compare.ts'
import { components } from './components.ts'
import { CONTENDERS } from './contenders.ts'
import { growth, SCENARIOS } from './growth.ts'
import { componentLine, growthLine, runLine, saveResults, summaryTable } from './report.ts'
import { startServers } from './servers.ts'

const PARTS = ['compare', 'components', 'growth'] as const
type Part = (typeof PARTS)[number]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /**
     * Names, separated by commas: contenders of `compare`, benches of `components`, scenarios of
     * `growth`.
     */
    only: { type: 'string' },
    /** Folder of another checkout: `compare` measures its Sagabox in turns with the one here. */
    against: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    /** Share of the full size: 0.1 for a quick look. */
    scale: { type: 'string', default: '1' },
    /** Publish the results in RESULTS.md, which a whole run at full size does by itself. */
    save: { type: 'boolean', default: false }
  }
})
const unknown = positionals.filter((name) => !PARTS.includes(name as Part))
if (unknown.length > 0) {
  console.error(
    `Unknown part ${unknown.join(', ')}: expected any of ${PARTS.join(', ')}, or none for compare and components`
  )
  process.exit(1)
}
const parts =
  positionals.length > 0
    ? (positionals as Part[])
    : values.against === undefined
      ? (['compare', 'components'] as const)
      : (['compare'] as const)
const only = values.only?.split(',')
const [rounds, scale] = [Number(values.rounds), Number(values.scale)]
const other = values.against === undefined ? undefined : buildOther(values.against)
const save = other === undefined && (values.save || (only === undefined && scale === 1))
const command = (part: Part, more: string) =>
  `npm run bench -- ${part}${more}${scale === 1 ? '' : ` --scale ${scale}`}`

const servers = await startServers()
let broken = 0
try {
  for (const part of parts) {
    console.log(`\n${part}\n`)
    if (part === 'compare') {
      const asked = CONTENDERS.filter(
        ({ name, isProduct }) => only?.includes(name) ?? (other === undefined || isProduct)
      )
      const contenders = other === undefined ? asked : withOther(asked, other)
      if (other !== undefined)
        console.log(`here ${versionOf('.')}, against ${versionOf(other)} (${other})\n`)
      const runs: Run[] = await compare(servers, {
        contenders,
        rounds,
        scale,
        report: (run) => console.log(runLine(run))
      })
      broken += runs.filter((run) => run.broken.length > 0).length
      console.log(`\n${summaryTable(runs)}`)
      if (other !== undefined) console.log(`\n${againstLines(runs).join('\n')}`)
      if (save) saveResults('compare', runs, command(part, ` --rounds ${rounds}`))
    } else if (part === 'components') {
      const lines = await components(
        servers,
        scale,
        (line) => console.log(componentLine(line)),
        only
      )
      if (save) saveResults('components', lines, command(part, ''))
    } else {
      for (const scenario of only ?? Object.keys(SCENARIOS)) {
        const lines = await growth(servers, scenario, scale, (line) =>
          console.log(growthLine(line))
        )
        broken += lines.filter((line) => line.broken.length > 0).length
        if (save) saveResults(`growth-${scenario}`, lines, command(part, ` --only ${scenario}`))
      }
    }
  }
} finally {
  await servers.stop()
}
if (broken > 0) console.error(`${broken} runs broke an invariant`)
// The servers' last sockets must not keep a finished run alive.
process.exit(broken > 0 ? 1 : 0)

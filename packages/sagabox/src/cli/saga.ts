import type { SagaDefinition } from '../index.ts'
import { checkSaga, describe } from '../testing.ts'
import { APP_OPTION, loadApp } from './app-module.ts'
import { EXIT, WrongUsage, type Call, type Command, type Group } from './command.ts'
import { checkRecordings, describeReport } from './recordings.ts'

const OPTIONS = {
  saga: { value: 'NAME', help: 'of the saga, where the module has several' },
  ...APP_OPTION
}

const check: Command = {
  summary:
    'Follow every path of each saga, and say what may go wrong; with a SOURCE hold what is recorded ' +
    'there to the machine: an address, that of an export, or a file with one',
  parameters: ['[SOURCE]'],
  options: { key: { value: 'KEY', help: 'for an address; see sagas --help' }, ...OPTIONS },
  async run(call) {
    const { options, terminal, parameters } = call
    const source = parameters['SOURCE']
    if (source !== undefined) {
      const report = await checkRecordings(source, await theOnly(call), call)
      if (options.has('json')) terminal.json(report)
      else terminal.print(...describeReport(report, source))
      return report.diverged.length + report.stranded.length > 0 ? EXIT.found : EXIT.ok
    }
    const checked = (await wanted(call)).map((saga) => ({
      saga: saga.name,
      findings: checkSaga(saga)
    }))
    if (options.has('json')) terminal.json(checked)
    else
      for (const { saga, findings } of checked)
        terminal.print(
          findings.length === 0 ? `${saga}: nothing found` : `${saga}:`,
          ...findings.map((finding) => `  ${finding}`)
        )
    return checked.some(({ findings }) => findings.length > 0) ? EXIT.found : EXIT.ok
  }
}

const diagram: Command = {
  summary: 'A saga’s machine as a Mermaid diagram',
  options: OPTIONS,
  async run(call) {
    const saga = await theOnly(call)
    const described = describe(saga)
    if (call.options.has('json')) call.terminal.json({ saga: saga.name, ...described })
    else call.terminal.print(described.mermaid)
    return EXIT.ok
  }
}

export const group: Group = { check, diagram }

async function wanted({ options }: Call): Promise<readonly SagaDefinition[]> {
  const { file, sagas, running } = await loadApp(options.text('app'))
  await running?.stop()
  if (sagas.length === 0)
    throw new WrongUsage(`${file} exports no saga, and no service that has one`)
  const name = options.text('saga')
  const named = name === undefined ? sagas : sagas.filter((saga) => saga.name === name)
  if (named.length > 0) return named
  throw new WrongUsage(`there is no saga ${name}; expected one of ${namesOf(sagas)}`)
}

async function theOnly(call: Call): Promise<SagaDefinition> {
  const sagas = await wanted(call)
  if (sagas.length === 1) return sagas[0]!
  throw new WrongUsage(`which saga? Expected --saga ${namesOf(sagas)}`)
}

function namesOf(sagas: readonly SagaDefinition[]): string {
  return sagas.map(({ name }) => name).join(' or ')
}

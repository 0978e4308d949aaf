import { once } from 'node:events'
import { consoleServices, InvalidConsoleServices, startConsole } from '../index.ts'
import { EXIT, NotReachable, WrongUsage, type Command, type Group } from './command.ts'

const DEFAULT_PORT = 3003

const command: Command = {
  summary:
    'The operators’ console for services that run elsewhere, on this machine alone, until Ctrl-C. What ' +
    'you may do there each service decides: the page asks for a key where one needs it',
  options: {
    service: { value: 'LIST', help: 'order=http://order:3000,stock=http://…: their addresses' },
    port: { value: 'N', help: `to listen on, ${DEFAULT_PORT} when not given; 0: any` },
    label: { value: 'NAME', help: 'of the environment, shown on every page' },
    color: { value: '#RRGGBB', help: 'of the label' },
    'read-only': { help: 'show, and change nothing' }
  },
  async run({ options, terminal }) {
    const list = options.text('service')
    if (list === undefined)
      throw new WrongUsage('which services? Expected --service order=http://order:3000')
    const color = options.text('color')
    if (color !== undefined && !/^#[0-9a-f]{6}$/i.test(color))
      throw new WrongUsage(`--color is ${color}; expected one like #b3261e`)
    const note = (_details: object, text: string) => terminal.note(text)
    const port = options.integer('port', 0, 65_535) ?? DEFAULT_PORT
    const running = await startConsole({
      services: servicesIn(list),
      port,
      label: options.text('label'),
      color,
      readOnly: options.has('read-only'),
      log: { debug() {}, info() {}, warn: note, error: note }
    }).catch((error: NodeJS.ErrnoException) => {
      if (error.code === undefined) throw error
      throw new NotReachable(
        `port ${port} cannot be listened on (${error.code}); choose another by --port`
      )
    })
    if (options.has('json')) terminal.json({ url: running.url })
    else terminal.print(running.url)
    await once(terminal.interrupted, 'abort')
    await running.stop()
    return EXIT.ok
  }
}

export const group: Group = { '': command }

function servicesIn(list: string): Record<string, string> {
  try {
    return consoleServices(list)
  } catch (error) {
    throw error instanceof InvalidConsoleServices ? new WrongUsage(error.message) : error
  }
}

// The command line without a Sagabox server: usage, and answers of servers that are none.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import Type from 'typebox'
import { Writable } from 'node:stream'
import { Options } from '../../src/cli/command.ts'
import { run } from '../../src/cli/run.ts'
import { Server } from '../../src/cli/server.ts'
import { Terminal } from '../../src/cli/terminal.ts'
import { clean, safeJson, shortened, table, time, widthOf } from '../../src/cli/text.ts'

/** Runs a command in this process. */
async function runCommand(args: readonly string[]) {
  const said = { out: '', err: '' }
  const code = await run(args, terminalOf(said))
  return { code, ...said }
}

function terminalOf(said: { out: string; err: string }): Terminal {
  const to = (name: 'out' | 'err') =>
    new Writable({
      write(chunk, _encoding, done) {
        said[name] += String(chunk)
        done()
      }
    })
  const interrupted = new AbortController().signal
  return new Terminal({ environment: {}, interrupted, out: to('out'), err: to('err') })
}

t.test('what is no command is refused with the nearest name', async (t) => {
  for (const [args, expected] of [
    [[], /^Usage: sagabox <command>/],
    [['leters'], /^sagabox: there is no command leters; letters is one\n/],
    [['constructor'], /there is no command constructor; expected one of dev, migrate, doctor,/],
    [['sagas'], /^sagabox: sagas what\? Expected one of list, show/],
    [['sagas', 'lst'], /there is no command sagas lst; list is one/],
    [['sagas', 'list', '--stat=x'], /there is no option --stat; --state is one/],
    [['sagas', 'list', '-s'], /there is no option -s/],
    [['sagas', 'list', '--limit', '0'], /--limit is 0; expected a whole number from 1 to 10000/],
    [['sagas', 'list', '--limit'], /--limit is given without a value; expected --limit N/],
    [['sagas', 'list', '--limit', '--utc'], /followed by --utc; if that is meant: --limit=--utc/],
    [['sagas', 'list', '--utc', '--utc'], /--utc is given twice/],
    [['sagas', 'list', '--json=x'], /--json takes no value/],
    [['sagas', 'list', 'more'], /more was not expected/],
    [['sagas', 'show'], /ID is missing/],
    [['sagas', 'show', ''], /the id is empty; expected a UUID, or the text/],
    [['letters', 'show', '1e3'], /is no id here; expected a number/],
    [['sagas', 'list', '--url', 'ftp://x'], /is no address/],
    [['sagas', 'list', '--url', 'http://a:b@x'], /holds a password/]
  ] as const) {
    const { code, err, out } = await runCommand(args)
    t.match({ code, err, out }, { code: 2, err: expected, out: '' }, args.join(' '))
  }
})

t.test('help is an answer, and asks nobody', async (t) => {
  for (const args of [
    ['--help'],
    ['sagas', '--help'],
    ['letters', 'retry', '--help'],
    ['dev', '--help']
  ])
    t.match(await runCommand(args), { code: 0, out: /^Usage: sagabox/, err: '' }, args.join(' '))
})

t.test('the page of commands has the help of each', async (t) => {
  const page = readFileSync(
    new URL('../../../../docs/reference/commands.md', import.meta.url),
    'utf8'
  )
  const help = async (...words: string[]) => (await runCommand([...words, '--help'])).out
  const isPrinted = (words: string[], text: string) =>
    t.ok(page.includes(`$ sagabox ${[...words, '--help'].join(' ')}\n${text}`), words.join(' '))
  const top = await help()
  isPrinted([], top)
  t.same(
    top.split('\n').filter((line) => line.length > 80),
    []
  )
  for (const [, word] of top.matchAll(/^ {2}(\w+) /gm)) {
    const text = await help(word!)
    const names = [
      ...text.matchAll(/^ +(?:Usage: )?sagabox \w+ ([\w-]+)|^Usage: sagabox \w+ ([\w-]+)/gm)
    ]
    if (names.length === 0) isPrinted([word!], text)
    for (const [, one, other] of names)
      isPrinted([word!, one ?? other!], await help(word!, one ?? other!))
  }
})

/** A server that is none of ours; its address. */
async function serve(t: Test, answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const list = (url: string) => runCommand(['sagas', 'list', '--saga', 'order', '--url', url])

t.test('a server that is not there, or is another, is exit code 3', async (t) => {
  t.match(await list('http://127.0.0.1:1'), {
    code: 3,
    out: '',
    err: /^sagabox: http:\/\/127.0.0.1:1 cannot be reached: .*give its address by --url or SAGABOX_URL\n$/
  })
  const answers: [string, RequestListener, RegExp][] = [
    ['text', (_, answer) => answer.end('<html>\u001b[2J'), /<html>\\u\{1b\}\[2J instead of JSON/],
    ['nothing', (_, answer) => answer.end(), /nothing instead of JSON/],
    [
      'another shape',
      (_, answer) => answer.end('{"items":{},"nextCursor":null}'),
      /another shape: \/items/
    ],
    [
      'a redirect',
      (_, answer) => answer.writeHead(302, { location: 'http://elsewhere/' }).end(),
      /302, which leads to http:\/\/elsewhere\/: give its address by --url/
    ],
    [
      'a broken answer',
      (_, answer) => void answer.writeHead(200).write('{', () => answer.destroy()),
      /cannot be reached/
    ],
    [
      'a refusal',
      (_, answer) => answer.writeHead(401).end('{"detail":"who are you?\\u001b[31m"}'),
      /does not let you: who are you\?\\u\{1b\}\[31m\. Expected a key/
    ],
    [
      'an outage',
      (_, answer) => answer.writeHead(503).end('{"detail":"no database"}'),
      /503: no database/
    ],
    [
      'an error of its own',
      (_, answer) => answer.writeHead(500).end('oops'),
      /500 without a problem document: oops/
    ]
  ]
  for (const [title, answer, expected] of answers) {
    const ran = await list(await serve(t, answer))
    t.match(ran, { code: 3, out: '', err: expected }, title)
    t.notOk(ran.err.includes('\u001b'))
  }
})

t.test('a problem is a sentence, and its status decides the exit code', async (t) => {
  for (const [status, code] of [
    [400, 2],
    [404, 1],
    [409, 1],
    [422, 1],
    [500, 3]
  ] as const) {
    const url = await serve(t, (_, answer) =>
      answer.writeHead(status).end(JSON.stringify({ title: 'No', detail: 'It is so' }))
    )
    t.match(await list(url), { code, err: /It is so\n/ }, String(status))
  }
})

t.test('an answer without end, or too slow, ends', async (t) => {
  const endless = await serve(t, (_, answer) => {
    let isOpen = true
    answer.on('close', () => void (isOpen = false))
    // In turns, or the end of the connection would never be heard of.
    const more = () =>
      void setImmediate(() => void (isOpen && answer.write(Buffer.alloc(1024 * 1024, ' '), more)))
    more()
  })
  t.match(await list(endless), { code: 3, err: /answers more than \d+ bytes/ })
  const silent = await serve(t, () => {})
  const call = {
    options: new Options(new Map([['url', silent]])),
    terminal: terminalOf({ out: '', err: '' })
  }
  await t.rejects(new Server(call, 100).get('/', Type.Object({})), {
    code: 'NOT_REACHABLE',
    message: /does not answer in time/
  })
})

t.test('a list that never gets anywhere ends, and says where', async (t) => {
  let asked = 0
  const url = await serve(t, (_, answer) =>
    answer.end(JSON.stringify({ items: [], nextCursor: `page${++asked}` }))
  )
  t.match(await list(url), { code: 0, out: 'No instance\n\nThere may be more: --cursor page50\n' })
})

t.test('what a server says cannot command the terminal', async (t) => {
  const hostile = '\u001b]0;owned\u0007\u009b31m\u202egnp\r\n.exe'
  const item = {
    sagaId: hostile,
    state: hostile,
    version: 1,
    machineVersion: 1,
    createdAt: hostile,
    updatedAt: hostile,
    stuckSince: null
  }
  const url = await serve(t, (_, answer) =>
    answer.end(JSON.stringify({ items: [item], nextCursor: null }))
  )
  const ran = await list(url)
  t.equal(ran.code, 0)
  t.notMatch(ran.out, /[^\P{C}\n]/u)
  const json = await runCommand(['sagas', 'list', '--saga', 'x', '--json', '--url', url])
  t.notMatch(json.out, /[^\P{C}\n]/u)
  t.same(JSON.parse(json.out).items, [item], 'the same, in JSON')
})

t.test('text is made safe, and fits', async (t) => {
  t.equal(clean('a\tb\u0000\u{1f600}'), 'a\\u{9}b\\u{0}\u{1f600}')
  t.same(JSON.parse(safeJson(JSON.stringify('\u009b\u{e0001}\u2028'))), '\u009b\u{e0001}\u2028')
  t.equal(widthOf('ab漢字e\u0301'), 7)
  t.equal(shortened('漢字漢字', 5), '漢字…')
  const lines = table(
    [{ id: 'x'.repeat(36), text: 'word '.repeat(40) }],
    [
      { title: 'ID', of: ({ id }) => id },
      { title: 'TEXT', of: ({ text }) => text, shrinks: true }
    ],
    60
  )
  t.ok(lines.every((line) => widthOf(line) <= 60))
  t.match(lines[1], /^x{36} {2}word .*…$/)
  t.equal(time('2026-11-28T23:30:00.5Z', true), '2026-11-28 23:30:00Z')
  t.equal(time('\u001b', true), '\\u{1b}')
})

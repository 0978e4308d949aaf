import t from 'tap'
// @ts-expect-error -- a script without types
import { auditOf, isAllowed, refused } from '../../scripts/check-dependencies.mjs'

t.test('a licence is allowed when one of its choices is, with all its parts', async (t) => {
  for (const one of ['MIT', '(MIT OR GPL-3.0)', 'MIT AND ISC', '(WTFPL OR MIT)'])
    t.ok(isAllowed(one), one)
  for (const one of [undefined, '', 'GPL-3.0', 'MIT AND GPL-3.0', 'SEE LICENSE IN x', 'UNLICENSED'])
    t.notOk(isAllowed(one), String(one))
})

t.test('packages are named by where they are, and workspaces are not asked', async (t) => {
  const packages = {
    '': {},
    'packages/own': {},
    'node_modules/own': { link: true },
    'node_modules/good': { license: 'MIT' },
    'node_modules/tool': { license: 'MPL-2.0', dev: true },
    'node_modules/given': { license: 'MPL-2.0' },
    'node_modules/bad': { license: 'GPL-3.0' },
    'node_modules/other': { license: 'MIT' }
  }
  const found = (path: string) => (path === 'node_modules/other' ? 'AGPL-3.0' : undefined)
  t.same(refused(packages, found), [
    ['node_modules/given', 'MPL-2.0'],
    ['node_modules/bad', 'GPL-3.0'],
    ['node_modules/other', 'AGPL-3.0']
  ])
})

t.test('an audit that could not be asked is not one that found nothing', async (t) => {
  t.same(auditOf('{"metadata":{"vulnerabilities":{"total":2}}}'), { found: { total: 2 } })
  t.same(auditOf('{"message":"405 Method Not Allowed"}'), { unasked: '405 Method Not Allowed' })
  t.same(auditOf('{"error":{"summary":"offline"}}'), { unasked: 'offline' })
  t.same(auditOf(''), { unasked: 'it gave no answer' })
})

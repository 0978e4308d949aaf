// Bundles the operators' console, packages/sagabox/console, to files with the digest of their content
// in their names. Part of the build.
import { build } from 'esbuild'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'

const root = fileURLToPath(new URL('..', import.meta.url))
const sources = join(root, 'packages/sagabox/console')
const page = join(root, 'packages/sagabox/dist/console/page')
/** What is bundled with it, and asks to be named. */
const BUNDLED = ['preact', '@preact/signals', '@preact/signals-core']

const { outputFiles } = await build({
  entryPoints: [join(sources, 'main.tsx')],
  outdir: join(page, 'assets'),
  entryNames: '[name]-[hash]',
  bundle: true,
  minify: true,
  format: 'esm',
  target: ['chrome123', 'firefox120', 'safari17.5'],
  tsconfig: join(sources, 'tsconfig.json'),
  legalComments: 'none',
  logLevel: 'warning',
  write: false
})

mkdirSync(join(page, 'assets'), { recursive: true })
for (const { path, contents } of outputFiles) {
  writeFileSync(path, contents)
  writeFileSync(`${path}.gz`, gzipSync(contents, { level: 9 }))
}
const nameOf = (end) =>
  `assets/${basename(outputFiles.find(({ path }) => path.endsWith(end)).path)}`
writeFileSync(
  join(page, 'index.html'),
  readFileSync(join(sources, 'index.html'), 'utf8')
    .replace('STYLE', nameOf('.css'))
    .replace('SCRIPT', nameOf('.js'))
)
writeFileSync(
  join(page, 'assets', 'LICENSES.txt'),
  BUNDLED.map(
    (name) => `${name}\n\n${readFileSync(join(root, 'node_modules', name, 'LICENSE'), 'utf8')}`
  ).join('\n\n')
)

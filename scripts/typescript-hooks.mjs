import { build, transform } from 'esbuild'
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const typebox = JSON.parse(readFileSync(join(root, 'node_modules/typebox/package.json'), 'utf8'))
const folder = join(root, `node_modules/.cache/typebox-${typebox.version}`)
/** What can be imported of typebox, and its file in the folder. */
const bundled = new Map(
  Object.keys(typebox.exports).map((path) => [
    join('typebox', path),
    join(folder, `${path === '.' ? 'typebox' : path.slice(2)}.mjs`)
  ])
)
const isBundled = existsSync(folder)

/** Makes one file of each part of typebox. Without that, typebox is what it is. */
export async function bundleTypebox() {
  if (isBundled) return
  const unfinished = `${folder}-${process.pid}`
  const entryPoints = Object.fromEntries(
    [...bundled].map(([name, file]) => [file.slice(folder.length + 1, -'.mjs'.length), name])
  )
  await build({
    entryPoints,
    absWorkingDir: root,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    outdir: unfinished,
    outExtension: { '.js': '.mjs' }
  })
  try {
    renameSync(unfinished, folder)
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true })
    // Another run may have been quicker.
    if (!existsSync(folder)) throw error
  }
}

export function resolve(specifier, context, next) {
  // The library's sources, not its build: see `exports` in packages/sagabox/package.json.
  if (/^sagabox(\/|$)/.test(specifier))
    return next(specifier, { ...context, conditions: [...context.conditions, 'source'] })
  const file = isBundled && bundled.get(specifier)
  return file
    ? { url: pathToFileURL(file).href, format: 'module', shortCircuit: true }
    : next(specifier, context)
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts') || url.includes('/node_modules/')) return next(url, context)
  const sourcefile = fileURLToPath(url)
  const { code } = await transform(await readFile(sourcefile, 'utf8'), {
    loader: 'ts',
    format: 'esm',
    target: 'node20',
    sourcemap: 'inline',
    sourcefile
  })
  return { format: 'module', source: code, shortCircuit: true }
}

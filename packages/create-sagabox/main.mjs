#!/usr/bin/env node
// `npm create sagabox my-app`: copies the template into a new folder.
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { basename, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const USAGE =
  'Usage: npm create sagabox <folder>   (the folder is new or empty, its name the package’s)'
const TEMPLATE = fileURLToPath(new URL('./template', import.meta.url))
/** What npm takes as the name of a package. */
const NAME = /^[a-z0-9][a-z0-9_-]{0,213}$/
/** Names that npm refuses, or that the project itself needs. */
const TAKEN = ['node_modules', 'sagabox', 'create-sagabox']
/** npm leaves these out of packages, or renames them. */
const RENAMED = [
  ['_gitignore', '.gitignore'],
  ['_package.json', 'package.json']
]

const [folder, ...more] = process.argv.slice(2)
if (folder === '--help' || folder === '-h') console.log(USAGE)
else if (folder === undefined || folder.startsWith('-') || more.length > 0) refuse(USAGE)
else create(resolve(folder))

/** @param {string} target */
function create(target) {
  const name = basename(target)
  if (!NAME.test(name) || TAKEN.includes(name))
    refuse(
      `${name || target} cannot be the name of a package; expected lower case letters, digits, hyphens and underscores, such as my-app`
    )
  if (existsSync(target) && !isEmpty(target))
    refuse(`${target} is there and not empty; expected a new folder: nothing was changed`)
  cpSync(TEMPLATE, target, { recursive: true })
  for (const [from, to] of RENAMED) renameSync(join(target, from), join(target, to))
  for (const file of ['package.json', 'README.md', 'docker-compose.yml'])
    fill(join(target, file), name)
  const way = relative(process.cwd(), target)
  console.log(
    [
      `Made ${target}. Next:`,
      '',
      ...(way === '' ? [] : [`  cd ${way}`]),
      '  npm install',
      '  npm run dev',
      '',
      'Neither Docker nor a database is needed: PostgreSQL comes with a package.'
    ].join('\n')
  )
}

/** @param {string} path */
function isEmpty(path) {
  try {
    return readdirSync(path).length === 0
  } catch {
    return false
  }
}

/**
 * @param {string} file
 * @param {string} name
 */
function fill(file, name) {
  const { version } = JSON.parse(readFileSync(new URL('./package.json', import.meta.url), 'utf8'))
  const text = readFileSync(file, 'utf8')
  writeFileSync(file, text.replaceAll('{{name}}', name).replaceAll('{{version}}', version))
}

/** @param {string} sentence */
function refuse(sentence) {
  console.error(sentence)
  process.exit(2)
}

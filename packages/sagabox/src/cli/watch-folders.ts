import { readdirSync, statSync, watch, type Dirent, type FSWatcher } from 'node:fs'
import { join, resolve } from 'node:path'

/** Files whose change matters. */
const SOURCES = /\.(?:[mc]?[jt]s|json|sql)$/
/** A saved file changes several times in a moment, ms. */
const SETTLED_MS = 100

/**
 * Calls when a source file below some folders has changed; not in node_modules, nor in folders that
 * begin with a dot. (Node's own recursive watch would look at those, too.)
 * @returns ends it
 */
export function watchFolders(
  roots: readonly string[],
  changed: (file: string) => void
): () => void {
  const watchers = new Map<string, FSWatcher>()
  let timer: NodeJS.Timeout | undefined
  const tell = (name: string) => {
    clearTimeout(timer)
    timer = setTimeout(() => changed(name), SETTLED_MS)
  }
  /** @param isNew its files were not there before, or were somewhere else */
  const add = (folder: string, isNew: boolean) => {
    if (watchers.has(folder)) return
    if (!isFolder(folder)) return
    watchers.set(folder, watcherOf(folder))
    for (const entry of entriesOf(folder)) {
      if (entry.isDirectory()) {
        if (isWatched(entry.name)) add(join(folder, entry.name), isNew)
      } else if (isNew && SOURCES.test(entry.name)) tell(entry.name)
    }
  }
  const watcherOf = (folder: string) =>
    watch(folder, (_event, name) => {
      if (name === null) return
      if (SOURCES.test(name)) return tell(name)
      if (!isWatched(name)) return
      // It is new, or was deleted, which ends its watcher without a word.
      watchers.get(join(folder, name))?.close()
      watchers.delete(join(folder, name))
      add(join(folder, name), true)
    }).on('error', () => {})
  for (const root of new Set(roots.map((one) => resolve(one)))) add(root, false)
  return () => {
    clearTimeout(timer)
    for (const watcher of watchers.values()) watcher.close()
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false
}

/** None when it is gone again. */
function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch {
    return []
  }
}

function isWatched(folder: string): boolean {
  return folder !== 'node_modules' && !folder.startsWith('.')
}

// The library's surface, as API Extractor reads it from the declarations of the build. It brings a
// compiler of its own: TypeScript 7 has no interface for programs.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  CompilerState,
  Extractor,
  ExtractorConfig,
  ExtractorLogLevel as Level
} from '@microsoft/api-extractor'

const LIBRARY = fileURLToPath(new URL('../../packages/sagabox', import.meta.url))

/** A declaration, as api.json has it. */
export interface Item {
  kind: string
  name?: string
  docComment?: string
  releaseTag?: 'Public' | 'Internal'
  excerptTokens?: { text: string }[]
  /** Of the declaration file that it is in. */
  fileUrlPath?: string
  members?: Item[]
}

/** One import path of the package. */
export interface Surface {
  /** `index` is `sagabox`, `testing` is `sagabox/testing`. */
  door: string
  /** For review: every signature, and nothing else. */
  report: string
  items: Item[]
  /** Types that signatures name and no door exports. */
  unnamed: string[]
}

/** Reads what `npm run build` has made: 3 s for all doors, measured. */
export function surfaces(): Surface[] {
  const { exports } = JSON.parse(readFileSync(join(LIBRARY, 'package.json'), 'utf8')) as {
    exports: Record<string, { types?: string }>
  }
  const entries = Object.values(exports).flatMap(({ types }) => (types ? [types] : []))
  const folder = mkdtempSync(join(tmpdir(), 'sagabox-api-'))
  try {
    const configs = entries.map((types) => configOf(types, entries, folder))
    const compilerState = CompilerState.create(configs[0]!, {
      additionalEntryPoints: configs.slice(1).map((config) => config.mainEntryPointFilePath)
    })
    const found = configs.map((config, index) => {
      Extractor.invoke(config, {
        compilerState,
        localBuild: true,
        messageCallback(message) {
          if (message.logLevel === Level.Error) throw new Error(message.text)
          message.handled = true
        }
      })
      const model = JSON.parse(readFileSync(config.apiJsonFilePath, 'utf8')) as Item
      return {
        door: doorOf(entries[index]!),
        report: readFileSync(config.reportFilePath, 'utf8'),
        items: model.members![0]!.members!
      }
    })
    const exported = new Set(found.flatMap(({ items }) => items.map(({ name }) => name!)))
    return found.map((surface) => ({ ...surface, ...withoutExported(surface.report, exported) }))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function doorOf(types: string): string {
  return types.replace(/^.*\/(\w+)\.d\.ts$/, '$1')
}

function configOf(types: string, entries: readonly string[], folder: string): ExtractorConfig {
  const door = doorOf(types)
  mkdirSync(join(folder, 'compared'), { recursive: true })
  return ExtractorConfig.prepare({
    configObjectFullPath: undefined,
    packageJsonFullPath: join(LIBRARY, 'package.json'),
    configObject: {
      projectFolder: LIBRARY,
      mainEntryPointFilePath: join(LIBRARY, types),
      compiler: {
        overrideTsconfig: {
          compilerOptions: {
            target: 'ES2023',
            lib: ['ES2023', 'ES2024.String'],
            module: 'NodeNext',
            moduleResolution: 'NodeNext',
            types: ['node'],
            strict: true,
            skipLibCheck: true,
            allowImportingTsExtensions: true,
            noEmit: true
          },
          files: entries
        }
      },
      apiReport: {
        enabled: true,
        reportFileName: `${door}.api.md`,
        reportFolder: folder,
        reportTempFolder: join(folder, 'compared')
      },
      docModel: { enabled: true, apiJsonFilePath: join(folder, `${door}.api.json`) },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      newlineKind: 'lf',
      messages: {
        compilerMessageReporting: { default: { logLevel: Level.Error } },
        tsdocMessageReporting: { default: { logLevel: Level.None } },
        extractorMessageReporting: {
          default: { logLevel: Level.None },
          'ae-forgotten-export': { logLevel: Level.Warning, addToApiReportFile: true }
        }
      }
    }
  })
}

/** A door may name what another one exports. */
function withoutExported(
  report: string,
  exported: ReadonlySet<string>
): Pick<Surface, 'report' | 'unnamed'> {
  const unnamed = new Set<string>()
  const tidied = report
    .replaceAll(
      /^ *\/\/ (?:Warning: \(ae-forgotten-export\)|\S+ - \(ae-forgotten-export\)) The symbol "(\w+)" .*\n/gm,
      (_line, symbol: string) => {
        const name = symbol.replace(/_\d+$/, '')
        if (!exported.has(name)) unnamed.add(name)
        return ''
      }
    )
    // What is left of a comment that has said nothing else.
    .replaceAll(/^ *\/\/\n(?= *\/\/ [@(])/gm, '')
    .replaceAll(/^\/\/ Warnings were encountered during analysis:\n\/\/\n\n?/gm, '')
    .replaceAll(/^ *\/\/\n(?! *\/\/)/gm, '')
    .replaceAll(/ *\/\/ \(undocumented\)\n/g, '')
    .replace('// (No @packageDocumentation comment for this package)\n\n', '')
  return { report: tidied, unnamed: [...unnamed].toSorted() }
}

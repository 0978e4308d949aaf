import type { Examination, Finding } from '../doctor/finding.ts'
import { EXIT, type Call, type Exit } from './command.ts'
import { clean, cleanLines, wrapped } from './text.ts'

/** Prints what was found, and says by the exit code whether anything was. */
export function report({ findings, notes }: Examination, { options, terminal }: Call): Exit {
  if (options.has('json')) terminal.json({ findings, notes })
  else {
    terminal.print(
      ...notes.flatMap((note) => wrapped(clean(note), terminal.width)),
      ...(notes.length > 0 ? [''] : [])
    )
    terminal.print(
      ...findings.flatMap((finding) => [...describe(finding, terminal.width), '']),
      findings.length === 0 ? 'Nothing found' : `${findings.length} found`
    )
  }
  return findings.length === 0 ? EXIT.ok : EXIT.found
}

function describe({ about, found, expected, advice }: Finding, width: number): string[] {
  return [
    clean(about),
    ...labelled('found', found, width),
    ...labelled('expected', expected, width),
    ...labelled('do', advice, width)
  ]
}

const LABEL = 12

function labelled(label: string, text: string, width: number): string[] {
  const lines = cleanLines(text).flatMap((line) => wrapped(line, width - LABEL))
  return lines.map((line, index) => `  ${(index === 0 ? label : '').padEnd(LABEL - 2)}${line}`)
}

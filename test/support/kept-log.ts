import type { Log } from '../../packages/sagabox/src/messaging/async/log.ts'

export interface Line {
  level: 'debug' | 'info' | 'warn' | 'error'
  message: string
  fields: Record<string, unknown>
}

/** A log that keeps what it is told. */
export function keptLog(): Log & { lines: Line[] } {
  const lines: Line[] = []
  const keep = (level: Line['level']) => (fields: object, message: string) =>
    void lines.push({ level, message, fields: fields as Line['fields'] })
  return {
    lines,
    debug: keep('debug'),
    info: keep('info'),
    warn: keep('warn'),
    error: keep('error')
  }
}

// Chromium, as a person uses it, and what it complains of.
import { createRequire } from 'node:module'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core'
import type { Test } from 'tap'
import { ensureChromium } from '../../scripts/chromium.mjs'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
/** An element has so long to be there, ms. */
const PATIENCE_MS = 30_000

export async function openBrowser(t: Test): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: ensureChromium(),
    // As root Chromium has no sandbox. It opens what this repository serves, and nothing else.
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : []
  })
  t.teardown(() => browser.close())
  return browser
}

export interface Visit {
  page: Page
  /** What should not be: errors, refusals of the page's policy, requests that leave its origin. */
  trouble: string[]
}

/** A page of its own, with nothing remembered. @param url whose origin is the page's own */
export async function visit(
  t: Test,
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {}
): Promise<Visit> {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options })
  t.teardown(() => context.close())
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  const trouble: string[] = []
  const { origin } = new URL(url)
  page.on('pageerror', (error) => trouble.push(`error: ${error.message}`))
  page.on('console', (line) => {
    // An answer of 4xx or 5xx is shown on the page.
    if (line.type() === 'error' && !line.text().startsWith('Failed to load resource'))
      trouble.push(`console: ${line.text()}`)
  })
  page.on('request', (request) => {
    const { protocol, origin: asked } = new URL(request.url())
    if (asked !== origin && protocol !== 'data:' && protocol !== 'blob:')
      trouble.push(`outside: ${request.url()}`)
  })
  await page.goto(url)
  return { page, trouble }
}

/** What axe finds: rule and elements. */
export async function axe(page: Page): Promise<string[]> {
  if (!(await page.evaluate('typeof axe === "object"'))) await page.evaluate(AXE)
  return page.evaluate<
    string[]
  >(`axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
    violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => id + ': ' + html.slice(0, 160) + ' ' + failureSummary)))`)
}

/** Keeps a picture, where a folder is named for them. */
export async function picture(page: Page, folder: string | undefined, name: string): Promise<void> {
  if (!folder) return
  mkdirSync(folder, { recursive: true })
  await page.screenshot({ path: join(folder, `${name}.png`), animations: 'disabled' })
}

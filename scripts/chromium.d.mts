/** The path of Chromium, installed first where that is possible. */
export function ensureChromium(): string

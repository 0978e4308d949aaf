/** Makes one file of each part of typebox, for tests to load faster. */
export function bundleTypebox(): Promise<void>

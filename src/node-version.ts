// The first import of main.ts: what is loaded after it ends in a stack trace under an older Node.
// `npm start` and `npm test` ask before that, by scripts/node-version.cjs.
const { features, versions, execPath, env } = process

// CommonJS packages require modules: 20.19 and 22.12 are the first that let them.
if ((features as { require_module?: boolean }).require_module !== true) {
  const [major = 0, minor = 0] = versions.node.split('.').map(Number)
  const isNewEnough = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19)
  console.error(
    isNewEnough
      ? `Sagabox cannot start.\nNODE_OPTIONS: "${env['NODE_OPTIONS'] ?? ''}" turns off require() of modules, which Sagabox needs; expected none of --no-experimental-require-module`
      : `Sagabox cannot start.\nThis is Node ${versions.node} (${execPath}); expected 20.19 or newer of 20, 22.12 or newer of 22, or a later one`
  )
  process.exit(1)
}

// Imported before everything else: an older Node would install for two minutes and then end in a stack trace.
// In the JavaScript of old Nodes, so that they can read it.
'use strict'

// Of what Sagabox loads, CommonJS packages require modules: 20.19 and 22.12 are the first that let them.
if (!process.features.require_module) {
  var numbers = process.versions.node.split('.').map(Number)
  var major = numbers[0]
  var isNewEnough =
    major > 22 || (major === 22 && numbers[1] >= 12) || (major === 20 && numbers[1] >= 19)
  console.error(
    isNewEnough
      ? 'sagabox: NODE_OPTIONS is "' +
          (process.env.NODE_OPTIONS || '') +
          '" and turns off require() of modules, which Sagabox needs: take --no-experimental-require-module out of it.'
      : 'sagabox: This is Node ' +
          process.versions.node +
          ' (' +
          process.execPath +
          '); expected 20.19 or newer of 20, 22.12 or newer of 22, or a later one.'
  )
  process.exit(1)
}

// `sagabox/testing`: what sagas and services are tested with.
export { checkSaga, type CheckOptions } from './saga/inspect/check.ts'
export {
  RecordingsCheck,
  type Finding,
  type RecordingsReport
} from './saga/inspect/check-recordings.ts'
export {
  describe,
  type MachineDescription,
  type TransitionDescription
} from './saga/inspect/diagram.ts'
export { InvalidRecording, readRecording, type Recording } from './saga/store/recording.ts'
export { advance, advanceMessages } from './testing/advance.ts'
export { settled, type WatchedSaga, type Watched } from './testing/settled.ts'
export { tell, type Expected, type Happening, type Story } from './testing/story.ts'
export { WatchedTransport } from './testing/watched-transport.ts'

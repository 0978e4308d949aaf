// `node health.mjs live` or `… ready`: ends with 0 when the process in this container says that it is. It speaks HTTPS
// when that is what the process was told to; to itself, so that the name in the certificate does not matter.
import { request } from 'node:http'
import { request as secureRequest } from 'node:https'

const [what] = process.argv.slice(2)
const { PORT = '3000', HTTPS_CERT_FILE } = process.env
const ask = HTTPS_CERT_FILE ? secureRequest : request
const asked = ask(
  {
    host: '127.0.0.1',
    port: PORT || '3000',
    path: `/health/${what}`,
    rejectUnauthorized: false,
    timeout: 4000
  },
  ({ statusCode }) => process.exit(statusCode === 200 ? 0 : 1)
)
asked.on('error', () => process.exit(1))
asked.on('timeout', () => process.exit(1))
asked.end()

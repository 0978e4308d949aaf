import { connect as connectPlain, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { FRAME_START_BYTES } from './frames.ts'
import { tlsOptions, type BrokerTls } from './tls.ts'

/** How long the broker may take to say why, ms. */
const ANSWER_MS = 3000
const METHOD_FRAME = 1
/** Class and method, 16 bits each. */
const START = 0x000a000a
const START_OK = 0x000a000b
const TUNE = 0x000a001e
const TUNE_OK = 0x000a001f
const OPEN = 0x000a0028
const CLOSE = 0x000a0032
/** What a client says first. */
const AMQP_0_9_1 = 'AMQP\0\0\x09\x01'

/**
 * What a failure to connect or to declare means for whoever set RABBITMQ_URL; the user is named,
 * the password never.
 * @param said what amqplib or Rascal said, without passwords
 * @returns a sentence; what needs no explanation is returned as it is
 */
export async function explainRefusal(said: string, url: string, tls?: BrokerTls): Promise<string> {
  const { hostname, protocol, port: given, username } = new URL(url)
  const isTls = protocol === 'amqps:'
  const place = `${hostname}:${given || (isTls ? 5671 : 5672)}`
  const user = decodeURIComponent(username) || 'guest'
  if (said.includes('got <ConnectionClose')) {
    const reason = await reasonOfClose(url, tls).catch(() => undefined)
    return `RABBITMQ_URL: the broker at ${place} does not open the virtual host "${vhostOf(url)}" for user "${user}"${reason ? `: ${reason}` : ', and does not say why'}`
  }
  if (/Handshake terminated by server: 403/.test(said))
    return `RABBITMQ_URL: the broker at ${place} refuses the password of user "${user}", or the user: ${last(said)}`
  if (/Operation failed: .*403/.test(said))
    return `RABBITMQ_URL: user "${user}" lacks a permission in the virtual host "${vhostOf(url)}"; expected configure, write and read: ${last(said)}`
  if (/wrong version number|packet length too long/i.test(said))
    return `RABBITMQ_URL: amqps:// was given, and ${place} does not speak TLS; amqp:// is without TLS, usually on port 5672`
  if (/altnames/i.test(said))
    return `RABBITMQ_URL: the certificate of ${place} is for another host (${last(said)}); expected the host as the certificate names it`
  if (/certificate (signature failure|has expired|is not yet valid)/i.test(said))
    return `RABBITMQ_URL: the certificate of ${place} is not valid (${last(said)}); RABBITMQ_CA_FILE names a file with the authority that signed it`
  if (/self.signed certificate|unable to (verify|get)/i.test(said))
    return `RABBITMQ_URL: the certificate of ${place} is not trusted (${last(said)}); RABBITMQ_CA_FILE names a file with the authority that signed it`
  if (/alert|handshake failure/i.test(said) && isTls)
    return `RABBITMQ_URL: the broker at ${place} refuses the client's certificate, or that there is none (${last(said)}); RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE name it and its key`
  if (
    /Socket closed abruptly|Frame size \d+ exceeds|Invalid frame|Expected ConnectionStart/i.test(
      said
    )
  ) {
    const port = isTls
      ? '5671 for amqps://'
      : '5672 for amqp://, while 5671 needs amqps:// and 15672 is its web page'
    return `RABBITMQ_URL: what listens at ${place} does not answer as a broker does, unless it is starting or stopping (${last(said)}); expected a broker's AMQP port, usually ${port}`
  }
  return said
}

/** Without what Rascal puts before it. */
function last(said: string): string {
  return said.replace(/^.*Original message was: /s, '').trim()
}

function vhostOf(url: string): string {
  return decodeURIComponent(new URL(url).pathname.slice(1)) || '/'
}

/**
 * Opens a connection by hand to hear the text of the broker's refusal, which amqplib keeps to
 * itself.
 * @returns such as `530 NOT_ALLOWED - vhost shop not found`; undefined when it does not refuse any
 * more
 */
async function reasonOfClose(url: string, tls?: BrokerTls): Promise<string | undefined> {
  const { hostname, protocol, port, username, password } = new URL(url)
  const isTls = protocol === 'amqps:'
  const host = hostname.replace(/^\[|\]$/g, '')
  const options = { host, port: Number(port) || (isTls ? 5671 : 5672) }
  const socket: Socket = isTls
    ? connectTls({ ...options, servername: host, ...tlsOptions(url, tls) })
    : connectPlain(options)
  socket.setTimeout(ANSWER_MS, () => socket.destroy(new Error('no answer')))
  const login = `\0${decodeURIComponent(username) || 'guest'}\0${username ? decodeURIComponent(password) : 'guest'}`
  const limit = setTimeout(() => socket.destroy(), ANSWER_MS)
  try {
    socket.write(AMQP_0_9_1, 'latin1')
    let rest: Buffer = Buffer.alloc(0)
    for await (const data of socket) {
      rest = Buffer.concat([rest, data as Buffer])
      for (let frame = methodIn(rest); frame; frame = methodIn(rest)) {
        rest = rest.subarray(frame.length)
        if (frame.method === START)
          socket.write(
            method(
              START_OK,
              Buffer.from([0, 0, 0, 0]),
              shortText('PLAIN'),
              longText(login),
              shortText('en_US')
            )
          )
        // What the broker proposes: channels, frame size, and the heartbeat, for which this does
        // not live long enough.
        else if (frame.method === TUNE)
          socket.write(
            Buffer.concat([
              method(TUNE_OK, frame.fields.subarray(0, 8)),
              method(OPEN, shortText(vhostOf(url)), shortText(''), Buffer.from([0]))
            ])
          )
        else if (frame.method === CLOSE) return textOf(frame.fields)
        else return undefined
      }
    }
    return undefined
  } finally {
    clearTimeout(limit)
    socket.destroy()
  }
}

/** The first frame, when it has arrived whole. */
function methodIn(bytes: Buffer): { method: number; fields: Buffer; length: number } | undefined {
  if (bytes.length < FRAME_START_BYTES) return undefined
  const size = bytes.readUInt32BE(3)
  const length = FRAME_START_BYTES + size + 1
  if (bytes.length < length || bytes[0] !== METHOD_FRAME || size < 4) return undefined
  return {
    method: bytes.readUInt32BE(FRAME_START_BYTES),
    fields: bytes.subarray(FRAME_START_BYTES + 4, length - 1),
    length
  }
}

function method(id: number, ...fields: Buffer[]): Buffer {
  const payload = Buffer.concat([uint32(id), ...fields])
  return Buffer.concat([
    Buffer.from([METHOD_FRAME, 0, 0]),
    uint32(payload.length),
    payload,
    Buffer.from([0xce])
  ])
}

/** Code and text of a connection.close. */
function textOf(fields: Buffer): string {
  const text = fields.subarray(3, 3 + fields[2]!).toString()
  return `${fields.readUInt16BE(0)} ${text}`
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function shortText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([Buffer.from([bytes.length]), bytes])
}

function longText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([uint32(bytes.length), bytes])
}

import { once } from 'node:events'
import { connect, createServer, type AddressInfo } from 'node:net'
import t from 'tap'
import { Proxy } from '../faults/proxy.ts'

t.test(
  'a slow network delays what is sent, and keeps its order, also when it is mended meanwhile',
  async (t) => {
    const server = createServer((socket) => void socket.on('error', () => {}).pipe(socket)).listen(
      0,
      '127.0.0.1'
    )
    await once(server, 'listening')
    t.teardown(() => server.close())
    const proxy = await Proxy.open(t, `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`)
    const { hostname, port } = new URL(proxy.url)
    const client = connect(Number(port), hostname).setNoDelay(true)
    t.teardown(() => client.destroy())
    await once(client, 'connect')

    const numbers = Array.from({ length: 100 }, (_, index) => `${index} `)
    const all = `${numbers.join('')}the end`
    let packets = 0
    let seen = () => {}
    proxy.slow(() => {
      seen()
      return packets++ % 2 === 0 ? 40 : 10
    })
    for (const number of numbers) {
      const isSeen = new Promise<void>((resolve) => (seen = resolve))
      client.write(number)
      await isSeen
    }
    proxy.heal()
    client.write('the end')
    let got = ''
    for await (const data of client) {
      got += String(data)
      if (got.length >= all.length) break
    }
    t.equal(got, all)
  }
)

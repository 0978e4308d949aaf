import { setTimeout as sleep } from 'node:timers/promises'
import type { Fault } from './fault.ts'

export const processFaults: Fault[] = [
  {
    name: 'two copies of each, killed at random',
    transports: ['rabbitmq'],
    site: { copies: 2 },
    async inject({ site, shop, random }) {
      for (let time = 1; time <= 8; time++) {
        await shop.answered(12 * time)
        await site.restart(site.names[Math.floor(random() * site.names.length)]!)
      }
      return 8
    }
  },
  {
    name: 'suspended for 3 to 8 s',
    transports: ['rabbitmq'],
    site: { copies: 2 },
    async inject({ site, shop, random }) {
      for (const [index, name] of site.names.entries()) {
        await shop.answered(10 * (index + 1))
        const program = await site.program(name)
        program.send('SIGSTOP')
        await sleep(3000 + 5000 * random())
        program.send('SIGCONT')
      }
      return site.names.length
    }
  },
  {
    name: 'asked to stop again and again',
    transports: ['memory', 'rabbitmq'],
    async inject({ site, shop, random }) {
      for (let time = 1; time <= 9; time++) {
        await shop.answered(12 * time)
        await site.restart(site.names[Math.floor(random() * site.names.length)]!, 'SIGTERM')
      }
      return 9
    }
  }
]

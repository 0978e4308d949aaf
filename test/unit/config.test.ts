import t from 'tap'
import { loadConfig, redeliverySeconds } from '../../src/config.ts'

// The environment is read once a process: one test.
t.test(
  'the environment is text; numbers in it are numbers, and an empty redelivery is none',
  async (t) => {
    Object.assign(process.env, {
      PORT: '8080',
      ORDER_DEADLINE_SECONDS: '0.5',
      REDELIVERY_SECONDS: '',
      DATABASE_URL: 'postgres://ada:p%2Fss%25@db.example/shop'
    })
    const config = await loadConfig()
    t.match(config, {
      port: 8080,
      orderDeadlineSeconds: 0.5,
      databaseUrl: 'postgres://ada:p%2Fss%25@db.example/shop',
      inboxDays: 7
    })
    t.same(redeliverySeconds(config), [])
  }
)

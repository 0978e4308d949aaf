import { userInfo } from 'node:os'
import t from 'tap'
import { parseDatabaseUrl } from '../../src/messaging/postgres/url.ts'
import { databaseProblem } from '../../src/messaging/postgres/problem.ts'
import { TEST_CA } from '../../../../test/support/standby.ts'

t.test('a URL is read as psql reads it', async (t) => {
  const me = userInfo().username
  for (const [url, expected] of [
    [
      'postgres://ada:p%2Fss%25@db.example/shop',
      {
        hosts: [{ host: 'db.example', port: 5432 }],
        user: 'ada',
        password: 'p/ss%',
        database: 'shop',
        ssl: false
      }
    ],
    [
      'postgresql://ada@h1,h2:5433/db?target_session_attrs=read-write',
      {
        hosts: [
          { host: 'h1', port: 5432 },
          { host: 'h2', port: 5433 }
        ]
      }
    ],
    [
      'postgres://ada@h1,h2/db?port=6000',
      {
        hosts: [
          { host: 'h1', port: 6000 },
          { host: 'h2', port: 6000 }
        ]
      }
    ],
    [
      'postgres://ada@h1,h2/db?port=6000,6001',
      {
        hosts: [
          { host: 'h1', port: 6000 },
          { host: 'h2', port: 6001 }
        ]
      }
    ],
    [
      'postgres://ada@/db?host=/run/postgresql',
      { hosts: [{ host: '/run/postgresql', port: 5432 }] }
    ],
    [
      'postgres://ada@%2Frun%2Fpostgresql:5433/db',
      { hosts: [{ host: '/run/postgresql', port: 5433 }] }
    ],
    [
      'postgres:///db?host=h1,/run',
      {
        hosts: [
          { host: 'h1', port: 5432 },
          { host: '/run', port: 5432 }
        ],
        user: me
      }
    ],
    ['postgres://ada@[::1]:5433/db', { hosts: [{ host: '::1', port: 5433 }] }],
    ['postgres://ada@h', { database: 'ada', password: undefined }],
    ['postgres://a@b:p@h/db', { user: 'a@b', password: 'p' }],
    [
      'postgres://ada@h/db?options=-c%20work_mem%3D8MB%20--temp-buffers=1MB%20-cgeqo=a%5C%20b',
      {
        settings: [
          ['work_mem', '8MB'],
          ['temp_buffers', '1MB'],
          ['geqo', 'a b']
        ]
      }
    ],
    [
      'postgres://ada@h/db?connect_timeout=7&application_name=shop',
      { connectTimeoutMs: 7000, applicationName: 'shop' }
    ],
    ['postgres://ada@h/db?sslmode=require', { ssl: {} }],
    ['postgres://ada@h/db?sslmode=no-verify', { ssl: { rejectUnauthorized: false } }],
    [
      'postgres://ada@h/db?sslmode=require&uselibpqcompat=true',
      { ssl: { rejectUnauthorized: false } }
    ],
    [
      `postgres://ada@h/db?sslmode=verify-full&sslrootcert=${TEST_CA}`,
      { ssl: { ca: /BEGIN CERTIFICATE/ } }
    ],
    ['postgres://ada@h/db?sslmode=require&channel_binding=require', { channelBinding: true }],
    ['postgres://ada@h/db?gssencmode=prefer&keepalives=1', { ssl: false }]
  ] as const)
    t.match(parseDatabaseUrl(url), expected, url)
  t.notOk(
    'rejectUnauthorized' in (parseDatabaseUrl('postgres://ada@h/db?sslmode=require').ssl as object),
    'require verifies'
  )
})

t.test('what cannot be honoured is refused by name, and shows no password', async (t) => {
  for (const [query, expected] of [
    [
      'target_session_attrs=standby',
      /target_session_attrs=standby: expected any, read-write, primary/
    ],
    ['sslmode=prefer', /sslmode=prefer: expected disable, require/],
    [
      'sslmode=require&sslrootcert=/nowhere/ca.pem',
      /sslrootcert=\/nowhere\/ca.pem: expected a file in PEM format/
    ],
    ['pgbouncer=true', /the parameter pgbouncer is not known: expected any of .*sslmode/],
    ['client_encoding=LATIN1', /client_encoding=LATIN1 cannot be honoured/],
    ['options=nonsense', /options: expected -c name=value/],
    ['connect_timeout=soon', /connect_timeout=soon: expected seconds/],
    ['port=1,2,3', /3 ports for 1 hosts/],
    ['sslnegotiation=direct&sslmode=disable', /sslnegotiation=direct needs TLS/]
  ] as const)
    t.throws(() => parseDatabaseUrl(`postgres://ada:hunter2@h/db?${query}`), expected, query)
  for (const url of [
    'postgres://ada:hun/ter2@h/db',
    'postgres://ada:hun#ter2@h/db',
    'postgres://ada:hunter2%@h/db',
    'postgres://ada:hunter2',
    'postgres://ada@h:99999/db',
    'postgres://[::1/db'
  ]) {
    t.throws(
      () => parseDatabaseUrl(url),
      { message: 'expected a postgres:// URL, with user and password percent-encoded' },
      url
    )
  }
})

t.test('what lasts until somebody does something names the setting', async (t) => {
  const setting = 'DATABASE_URL or ORDER_DATABASE_URL'
  for (const [code, message, expected] of [
    [
      '28P01',
      'password authentication failed for user "app"',
      'expected a user that may log in, and its password, in'
    ],
    [
      '28000',
      'no pg_hba.conf entry for host "10.0.0.1", user "app", database "shop", no encryption',
      'expected sslmode=require in'
    ],
    ['3D000', 'database "shop" does not exist', 'expected a database that is there'],
    [undefined, 'The server does not support SSL connections', 'expected sslmode=disable in'],
    [
      undefined,
      'SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string',
      'the server asks for a password: expected one in'
    ],
    [
      'SELF_SIGNED_CERT_IN_CHAIN',
      'self-signed certificate in certificate chain',
      'sslrootcert=/path/to/ca.pem in'
    ]
  ] as const) {
    const problem = databaseProblem(Object.assign(new Error(message), { code }), setting)
    t.ok(
      problem.startsWith(message) && problem.includes(expected) && problem.includes(setting),
      problem
    )
  }
  const nobody = new AggregateError([
    new Error('connect ECONNREFUSED ::1:1'),
    new Error('connect ECONNREFUSED 127.0.0.1:1')
  ])
  t.equal(
    databaseProblem(nobody, setting),
    'connect ECONNREFUSED ::1:1; connect ECONNREFUSED 127.0.0.1:1'
  )
})

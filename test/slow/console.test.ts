// The operators' console in Chromium, on the real system. CONSOLE_PICTURES=folder keeps pictures of
// all screens; CONSOLE_SCREENSHOTS=docs/images those that the documentation shows.
import { createServer, request as ask } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import type { Page } from 'playwright-core'
import { advance } from '../../packages/sagabox/src/testing/advance.ts'
import { shopTopology } from '../../src/shop.ts'
import { GatedTransport } from '../support/gated-transport.ts'
import { startConsole } from '../../packages/sagabox/src/service/console.ts'
import { Api } from '../support/api.ts'
import { axe, openBrowser, picture, visit } from '../support/browser.ts'
import { guardedShop } from '../support/guarded-shop.ts'
import { rabbitmqForTests } from '../support/rabbitmq.ts'
import { orderSagas, startSystem, testLog, type TestSystemOptions } from '../support/system.ts'
import { until } from '../support/until.ts'

t.setTimeout(300_000)

const PICTURES = process.env['CONSOLE_PICTURES']
const SCREENSHOTS = process.env['CONSOLE_SCREENSHOTS']
const SIZES = [
  [360, 'light'],
  [1024, 'light'],
  [1600, 'dark']
] as const

/** In the documentation. */
const SHOWN = ['overview', 'saga', 'group']

/** Orders in every condition: done, failed, waiting, stuck behind dead letters. */
async function troubledShop(t: Test, options: TestSystemOptions = {}) {
  let gated: GatedTransport | undefined
  const shop = await startSystem(t, 'memory', {
    settings: { redeliverySeconds: [], deadlineSeconds: 600 },
    wrap: (transport) => (gated = new GatedTransport(transport, shopTopology())),
    ...options
  })
  const { api, system, databaseUrl } = shop
  const database = new pg.Client({ connectionString: databaseUrl })
  await database.connect()
  t.teardown(() => database.end())
  await api.putProduct('keyboard', 1000)
  const completed = await api.placeOrder()
  const failed = await api.placeOrder({ paymentMethod: 'pm_card_chargeDeclined' })
  await Promise.all([completed, failed].map((id) => api.settled(id)))
  // Releasing does not work, and its deadline passes.
  await database.query(`
    create function stock_service.refuse() returns trigger language plpgsql as $$ begin raise exception 'the warehouse is locked'; end $$;
    create trigger refuse before update on stock_service.reservations for each row execute function stock_service.refuse()`)
  const stuck = await api.placeOrder({ paymentMethod: 'pm_card_chargeDeclined' })
  await until('its compensation has failed', async () => {
    const saga = await api.get(`/sagas/${stuck}`)
    return saga.waitingFor?.lastError && saga
  })
  await until('it is stuck', async () => {
    // Again: what the fault wrote meanwhile may have put its timer back.
    await advance(orderSagas(system), '31s', [stuck])
    return (await api.get('/sagas?stuck=true')).items.length > 0
  })
  // Payment cannot write: its messages become dead letters, and their orders wait.
  await database.query('alter table payment_service.payments rename column amount to amount_away')
  const dead = await Promise.all(Array.from({ length: 7 }, () => api.placeOrder()))
  await until(
    'they are dead letters',
    async () => (await api.get('/ops/payment/dead-letters/groups')).total === dead.length
  )
  gated!.hold('stock', 'OrderCreatedEvent')
  const waiting = await api.placeOrder()
  const mend = () =>
    database.query('alter table payment_service.payments rename column amount_away to amount')
  return { ...shop, database, completed, failed, stuck, dead, waiting, mend }
}

/** Goes to a place of the console, and waits until what it shows is there. */
async function open(page: Page, query: string, ready: string): Promise<void> {
  await page.goto(`${page.url().split('?', 1)[0]}${query}`)
  await page.locator(ready).first().waitFor()
}

t.test('every screen, at three widths, light and dark', async (t) => {
  const browser = await openBrowser(t)
  const shop = await troubledShop(t, {
    console: { label: 'test', color: '#7a1fa2' }
  })
  const { api, stuck, dead, completed } = shop
  const [letter] = (await api.get('/ops/payment/dead-letters')).items
  const { page, trouble } = await visit(t, browser, `${shop.system.url}/console/`)
  const screens: [name: string, query: string, ready: string][] = [
    ['overview', '?view=overview', '.heat td a'],
    ['sagas', '?view=sagas', 'tr[data-row]'],
    ['stuck', '?view=sagas&saga=order&stuck=true', 'tr[data-row]'],
    ['saga', `?view=saga&service=order&saga=order&id=${dead[0]}`, '#slider'],
    ['saga-stuck', `?view=saga&service=order&saga=order&id=${stuck}`, '#slider'],
    ['saga-ended', `?view=saga&service=order&saga=order&id=${completed}`, '#slider'],
    ['letters', '?view=letters&service=payment', 'tr[data-row]'],
    [
      'group',
      '?view=letters&service=payment&kind=error&type=StockReservedEvent&exception=DatabaseError+42703',
      '#group'
    ],
    ['letter', `?view=letter&service=payment&id=${letter.id}`, '#body'],
    ['message', `?view=message&id=${letter.messageId}`, '.verdict, .card'],
    ['versions', '?view=versions', '#check'],
    ['contracts', '?view=contracts&contract=StockReservedEvent', '#contract'],
    ['audit', '?view=audit', '.filters'],
    ['search', `?view=search&q=${dead[0]}`, '[data-row]']
  ]
  for (const [name, query, ready] of screens) {
    await open(page, query, ready)
    for (const [width, colorScheme] of SIZES) {
      await page.setViewportSize({ width, height: width === 360 ? 780 : 900 })
      await page.emulateMedia({ colorScheme })
      const at = `${name} ${width} ${colorScheme}`
      // The middle one looks as the widest does.
      if (width !== 1024) t.same(await axe(page), [], `${at}: axe`)
      t.ok(
        await page.evaluate('document.documentElement.scrollWidth <= innerWidth'),
        `${at}: the page does not scroll sideways`
      )
      await picture(page, PICTURES, at.replaceAll(' ', '-'))
    }
    if (SHOWN.includes(name)) {
      await page.emulateMedia({ colorScheme: 'light' })
      await page.setViewportSize({ width: 960, height: name === 'saga' ? 800 : 560 })
      await picture(page, SCREENSHOTS, name)
    }
  }
  await open(page, `?view=saga&service=order&saga=order&id=${dead[0]}`, '.diagram svg')
  const toneOf = (state: string) =>
    page.locator(`[data-state="${state}"]`).getAttribute('data-tone')
  t.equal(await toneOf('Suspend.reservingStock'), 'past')
  t.equal(await toneOf('Suspend.takingPayment'), 'current')
  t.equal(await toneOf('Completed'), 'open')
  t.match(
    await page.locator('[data-finding=deadLetter] .sentence').innerText(),
    /payment could not/
  )
  t.match(await page.locator('.edge.due text').allTextContents(), [/^in 9 min/])
  await page.locator('[data-hop=deadLetter]').first().waitFor()
  await open(page, `?view=saga&service=order&saga=order&id=${completed}&step=2`, '.diagram svg')
  t.match(await page.locator('[aria-current=step]').innerText(), '2')
  t.match(await page.locator('.changes').innerText(), /total/)
  t.same(trouble, [])
})

t.test('by keyboard alone: from the overview to a letter, back again, and a retry', async (t) => {
  const browser = await openBrowser(t)
  const shop = await troubledShop(t)
  const { page, trouble } = await visit(t, browser, `${shop.system.url}/console/`)
  const keys = page.keyboard
  await page.locator('.verdict').waitFor()
  await keys.press('?')
  await page.getByRole('dialog').waitFor()
  await keys.press('Escape')
  await page.getByRole('dialog').waitFor({ state: 'detached' })
  await keys.press('g')
  await keys.press('d')
  await page.getByRole('heading', { name: 'Dead letters of order' }).waitFor()
  t.equal(await page.evaluate('document.activeElement.id'), 'main', 'focus is on the new screen')
  await page.getByRole('link', { name: 'payment' }).focus()
  await keys.press('Enter')
  await page.locator('tr[data-row]').waitFor()
  await keys.press('j')
  await keys.press('Enter')
  await page.locator('[aria-label=Letters] tr[data-row]').first().waitFor()
  const rows = await page.locator('tr[data-row]').count()
  for (let row = 1; row < rows; row++) await keys.press('j')
  await keys.press('k')
  await keys.press('Enter')
  await page.locator('#body').waitFor()
  const first = page.url()
  await keys.press('n')
  const dialog = page.getByRole('dialog')
  await dialog.waitFor()
  t.equal(await page.evaluate('document.activeElement.id'), 'why', 'the reason is asked for first')
  await keys.press('Enter')
  t.ok(await dialog.isVisible(), 'nothing is done without a reason')
  await keys.type('by hand')
  await keys.press('Tab')
  await keys.press('Enter')
  await dialog.waitFor({ state: 'detached' })
  await page.waitForURL((url) => url.href !== first)
  t.match(page.url(), /view=letter/, 'the next one is shown')
  await page.goBack()
  await page.locator('#body').waitFor()
  t.equal(page.url(), first)
  await keys.press('/')
  await keys.type(shop.completed)
  await keys.press('Enter')
  await page.locator('[data-row]').waitFor()
  await keys.press('j')
  await keys.press('Enter')
  await page.locator('#slider').focus()
  await keys.press('ArrowLeft')
  t.match(page.url(), /step=2/, 'the step is in the address')
  for (const key of 'abcdefhijklmopqstuvwxyz') await keys.press(key)
  t.match(await shop.api.get('/ops/payment/dead-letters/deleted'), { items: [] }, 'no key deletes')
  t.same(trouble, [])
})

t.test('what is done is done as the page says, for a reason, and written down', async (t) => {
  const browser = await openBrowser(t)
  const shop = await troubledShop(t, { console: { label: 'production', color: '#b3261e' } })
  const { api, stuck, dead, waiting } = shop
  const { page, trouble } = await visit(t, browser, `${shop.system.url}/console/`)
  const dialog = page.getByRole('dialog')
  const confirm = async (why: string, verb: string) => {
    await dialog.getByRole('img', { name: 'Environment: production' }).waitFor()
    t.same(await axe(page), [], 'axe, in the dialog')
    await dialog.getByLabel('Why?').fill(why)
    await dialog.getByRole('button', { name: verb }).click()
    await dialog.waitFor({ state: 'detached' })
  }

  await open(page, `?view=saga&service=order&saga=order&id=${stuck}`, '#slider')
  await page.getByRole('button', { name: 'Retry …', exact: true }).click()
  await confirm('the warehouse is open', 'Retry')
  await page.getByText('Sent ReleaseStock.').waitFor()
  const { history } = await api.get(`/sagas/${stuck}`)
  t.match(history.at(-1), { event: 'retry', note: /the warehouse is open/ })

  await open(page, '?view=sagas&saga=order&stuck=true', 'tr.why')
  await page.getByRole('button', { name: 'Retry all of these …' }).click()
  await confirm('all of them', 'Retry them')
  await page.locator('[data-job=running]').waitFor()
  t.match(page.url(), /stuck=true.*job=1/, 'the job is in the address')
  await page.getByRole('button', { name: 'Stop …' }).click()
  await confirm('enough', 'Stop')
  await page.locator('[data-job=stopped]').waitFor()
  t.match(await page.locator('[data-job]').innerText(), /enough/)

  await open(page, `?view=saga&service=order&saga=order&id=${waiting}`, '#slider')
  await page.getByRole('button', { name: 'Cancel …' }).click()
  await confirm('the customer called', 'Cancel it')
  await page.getByText('It is cancelled, and now in Failed.releasingStock.').waitFor()

  const [letter] = (await api.get('/ops/payment/dead-letters')).items
  await open(page, `?view=letter&service=payment&id=${letter.id}`, '#body')
  await page.getByRole('button', { name: 'Delete …' }).click()
  await confirm('not ours', 'Delete it')
  await page.getByText(`Letter ${letter.id} is deleted.`).waitFor()
  t.equal((await api.call('GET', `/ops/payment/dead-letters/${letter.id}`)).status, 404)

  await shop.mend()
  await page.locator('tr[data-row] a').first().click()
  await page.getByRole('button', { name: 'Note …' }).click()
  await dialog.getByLabel('resolved').check()
  await confirm('the column was renamed', 'Keep the note')
  await page.getByText('the column was renamed').waitFor()
  await page.locator('.chip', { hasText: 'resolved' }).waitFor()

  await page.locator('[aria-label=Letters] tr[data-row] a').first().click()
  await page.getByRole('button', { name: 'Edit and send …' }).click()
  const body = page.getByLabel('The message’s body')
  const text = await body.inputValue()
  await body.fill(text.replace('"EUR"', '"euros"'))
  await page.getByRole('button', { name: 'Check and send …' }).click()
  await dialog.getByLabel('Why?').fill('another card')
  await dialog.getByRole('button', { name: 'Send it' }).click()
  await dialog.locator('[role=alert] code', { hasText: 'currency' }).waitFor()
  await dialog.getByRole('button', { name: 'Back' }).click()
  await body.fill(text.replace('pm_card_visa', 'pm_card_mastercard'))
  await page.getByRole('button', { name: 'Check and send …' }).click()
  await confirm('another card', 'Send it')
  await page.getByText(/^Sent as/).waitFor()
  await page.getByRole('link', { name: 'with the same cause' }).waitFor()

  await open(page, '?view=letters&service=payment', 'tr[data-row]')
  await page.locator('tr[data-row] a').first().click()
  await page.getByRole('button', { name: 'Retry all of them …' }).click()
  await confirm('the column is back', 'Retry them')
  await page.locator('[data-job=done]').waitFor()
  t.match(await page.locator('[data-job=done]').innerText(), /5 done, 0 failed/)
  for (const id of dead.filter((one) => one !== letter.correlationId)) await api.settled(id)

  await open(page, '?view=audit&service=payment', 'tbody tr')
  const rows = await page.locator('tbody tr').allInnerTexts()
  t.match(rows.join('\n'), /letter:delete.*not ours.*done 204/s)
  t.match(rows.join('\n'), /letter:retry.*the column is back.*done 202/s)
  t.same(trouble, [])
})

t.test('hostile payloads are text, and a hidden page asks nothing', async (t) => {
  const browser = await openBrowser(t)
  const { system, api } = await startSystem(t, 'memory', { settings: { redeliverySeconds: [] } })
  const payloads = [
    `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`,
    JSON.stringify({ message: { note: '</pre><script>alert(1)</script>' } }),
    `{"a":"${'<b>'.repeat(350_000)}"}`,
    Buffer.from([0, 255, 254, 1, 2, 3])
  ]
  for (const [index, payload] of payloads.entries())
    await system.transport.publish({
      messageId: `hostile "><script>alert(${index})</script>`,
      destination: 'payment',
      payload,
      headers: { evil: '<svg onload=alert(1)>' },
      contentType: null,
      required: false
    })
  const letters = await until('they are dead letters', async () => {
    const { items } = await api.get('/ops/payment/dead-letters')
    return items.length === payloads.length && items
  })
  const { page, trouble } = await visit(t, browser, `${system.url}/console/`)
  for (const { id } of letters) {
    await open(page, `?view=letter&service=payment&id=${id}`, '#body')
    await page.getByLabel('Payload').waitFor()
    t.equal(await page.locator('main script, main img, main pre *').count(), 0, `letter ${id}`)
    t.notMatch(await page.title(), 'taken')
  }
  await open(page, `?view=search&q=${encodeURIComponent('<img src=x onerror=alert(1)>')}`, 'h1')
  t.same(trouble, [])

  let asked = 0
  page.on('request', () => asked++)
  await open(page, '?view=letters&service=payment', 'tr[data-row]')
  await page.evaluate(`
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => window.isHidden })
    window.isHidden = true
    document.dispatchEvent(new Event('visibilitychange'))`)
  await page.waitForLoadState('networkidle')
  asked = 0
  // Longer than a list waits between two looks, by the page's own clock.
  await page.evaluate('new Promise((resolve) => setTimeout(resolve, 6500))')
  t.equal(asked, 0, 'nothing while it is hidden')
  const renewed = page.waitForRequest(/dead-letters\/groups/)
  await page.evaluate(
    `window.isHidden = false; document.dispatchEvent(new Event('visibilitychange'))`
  )
  await renewed
})

t.test(
  'below a prefix, with keys: sign in, come back to what was asked for, by role',
  async (t) => {
    const browser = await openBrowser(t)
    const proxy = createServer((asked, answer) => {
      const { hostname, port } = new URL(target)
      const path = asked.url!.replace(/^\/shop/, '')
      asked.pipe(
        ask({ hostname, port, path, method: asked.method, headers: asked.headers }, (got) => {
          answer.writeHead(got.statusCode!, got.headers)
          got.pipe(answer)
        })
      )
    }).listen(0, '127.0.0.1')
    t.teardown(() => proxy.close())
    await once(proxy, 'listening')
    const publicUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}/shop`
    const { system, keys, ask: askShop } = await guardedShop(t, { app: { publicUrl } })
    const target = system.url
    const product = { name: 'Lamp', unitPrice: 100, currency: 'EUR', onHand: 10 }
    await askShop('carl', 'PUT', '/products/keyboard', product)
    const order = {
      customerId: 'ada',
      items: [{ productId: 'keyboard', quantity: 1 }],
      paymentMethod: 'pm_card_visa'
    }
    const { orderId } = (await askShop('ada', 'POST', '/orders', order)).body
    const place = `?view=saga&service=order&saga=order&id=${orderId}`
    const { page, trouble } = await visit(t, browser, `${publicUrl}/console/${place}`)
    t.same(await axe(page), [], 'axe, at the sign-in')
    await page.getByLabel('Key').fill(keys.vera)
    await page.getByRole('button', { name: 'Sign in with a key' }).click()
    await page.locator('#slider').waitFor()
    t.equal(page.url(), `${publicUrl}/console/${place}`)
    t.equal(
      await page.getByRole('button', { name: /Retry|Cancel/ }).count(),
      0,
      'a viewer has no buttons'
    )
    await page.getByRole('button', { name: 'Sign out' }).click()
    await page.getByLabel('Key').fill(keys.ada)
    await page.getByRole('button', { name: 'Sign in with a key' }).click()
    await page.getByText('You are ada, customer').waitFor()
    t.same(trouble, [])
  }
)

t.test(
  'three processes on RabbitMQ, and a console of its own: one that is down is grey',
  async (t) => {
    const browser = await openBrowser(t)
    const rabbitmqUrl = await (await rabbitmqForTests()).createVhost()
    const first = await startSystem(t, 'rabbitmq', { services: ['order'], rabbitmqUrl })
    const { databaseUrl } = first
    const others = await Promise.all(
      (['stock', 'payment'] as const).map((name) =>
        startSystem(t, 'rabbitmq', { services: [name], rabbitmqUrl, databaseUrl })
      )
    )
    const urls = [first, ...others].map(({ system }) => system.url)
    const api = new Api({ order: urls[0]!, stock: urls[1]!, payment: urls[2]! })
    await api.putProduct('keyboard', 10)
    const orderId = await api.placeOrder()
    await api.settled(orderId)
    const console = await startConsole({
      services: { order: urls[0]!, stock: urls[1]!, payment: urls[2]! },
      log: testLog
    })
    t.teardown(() => console.stop())
    const { page, trouble } = await visit(t, browser, console.url)
    await page.locator('.verdict.ok').waitFor()
    t.equal(await page.locator('.card').count(), 3)
    t.equal(await page.locator('.card.lost').count(), 0)
    await others[1]!.system.stop()
    const lost = page.locator('.card.lost[data-service=payment]')
    await lost.waitFor()
    t.match(await lost.innerText(), /payment cannot be reached: ECONNREFUSED.*Not reached since/s)
    t.match(await page.locator('.verdict.problem').innerText(), /payment cannot be reached/)
    t.same(await axe(page), [])
    await picture(page, PICTURES, 'one-is-down')
    await open(page, `?view=saga&service=order&saga=order&id=${orderId}`, '#slider')
    t.equal(await page.locator('h1').innerText(), orderId, 'the others are shown as before')
    t.same(trouble, [])
  }
)

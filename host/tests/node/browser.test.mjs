// Pages in a real browser that are left, reloaded, cached and closed: a page that is gone keeps no subscriptions, and
// subscriptions of a lost connection are restored.
//
// After navigation, a page is either gone (it sends Close 1001) or in the back-forward cache, where its WebSocket stays
// open and answers no ping.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { browse, hears, missing, serve, told } from './browser.mjs';
import { Server, until } from './support.mjs';

describe('pages in a browser', { skip: missing }, () => {
  for (const transports of ['websocket', 'polling,websocket']) {
    test(`after navigation, only the next page's lead is subscribed (${transports})`, async (t) => {
      const { page, show, viewers, roof, barn } = await desk(t, transports);
      await show(page, roof);
      await viewers(roof, ['Sales User']);
      await show(page, barn);
      assert.deepEqual(await followed(page), [barn]);
      await viewers(roof, []);
      await viewers(barn, ['Sales User']);
      // Then navigate to a page that shows no lead.
      await show(page, null);
      assert.deepEqual(await followed(page), []);
      await viewers(barn, []);
    });

    test(`a reloaded page subscribes to its lead once (${transports})`, async (t) => {
      const { page, show, viewers, roof } = await desk(t, transports);
      await show(page, roof);
      for (let times = 0; times < 3; times += 1) {
        await page.reload();
        await hears(page, 'lead:viewers');
        assert.deepEqual(await followed(page), [roof]);
      }
      await viewers(roof, ['Sales User']);
    });

    test(`pages in the back-forward cache time out and have no subscriptions; a restored page resubscribes (${transports})`, async (t) => {
      const { page, show, viewers, roof, barn } = await desk(t, transports);
      await show(page, roof, { again: true });
      await show(page, barn, { again: true });
      await viewers(roof, []);
      await show(page, null);
      assert.deepEqual(await followed(page), [], 'neither of those before');
      await viewers(barn, []);
      // If it is not in the cache it is loaded again, with the same result.
      await page.goBack({ waitUntil: 'commit' });
      await viewers(barn, ['Sales User']);
      assert.deepEqual([...new Set(await followed(page))], [barn]);
    });

    test(`after one of two tabs is closed, the other keeps only its own lead (${transports})`, async (t) => {
      const { page, open, show, viewers, roof, barn } = await desk(t, transports);
      const other = await open();
      await show(page, roof);
      await show(other, barn);
      await other.close();
      await viewers(barn, []);
      // A stock client that gets no ping closes without a code and reconnects.
      await page.evaluate('heard.length = 0; socket.io.engine.close()');
      await hears(page, 'lead:subscribed');
      await hears(page, 'lead:viewers');
      assert.deepEqual(await followed(page), [roof]);
      await viewers(roof, ['Sales User']);
    });
  }
});

/** A colleague's browser, two leads, and an admin who sees their viewers. */
async function desk(t, transports) {
  const origin = await serve(t);
  // A short ping timeout, but longer than a navigation takes on a busy machine: a socket that is lost before the next
  // page connects leaves its lead to that page.
  const settings = `[presence]\ngrace = "100ms"\n[socket]\nping_interval = "2s"\nping_timeout = "5s"\n[http]\ncors_origins = ["${origin}"]\n`;
  const server = await Server.start(t, { settings });
  const [admin, sales] = await Promise.all(['ADMIN', 'SALES'].map((role) => server.person(role)));
  const [roof, barn] = await Promise.all(
    ['Roof', 'Barn'].map(async (title) => (await admin.api('POST', '/api/leads', { title })).id),
  );
  const context = await browse(t);
  const open = async () => {
    const page = await context.newPage();
    page.on('pageerror', (error) => assert.fail(error));
    return page;
  };
  const show = async (page, lead, options = {}) => {
    const query = new URLSearchParams({ server: server.url, token: sales.token, transports, ...options });
    if (lead) query.set('lead', lead);
    await page.goto(`${origin}/?${query}`);
    await hears(page, 'connected');
    // An ack arrives after all earlier subscriptions.
    if (lead) await hears(page, 'lead:viewers', ({ leadId }) => leadId === lead);
    await page.evaluate("socket.emitWithAck('lead:unsubscribe', { leadId: 'none' })");
  };
  const viewers = async (lead, names) => {
    let listed;
    await until(() => `viewers of ${lead} to be [${names}], they are ${JSON.stringify(listed)}`, async () => {
      listed = (await admin.api('GET', `/api/presence?leadId=${lead}`)).users.map(({ name }) => name);
      return JSON.stringify(listed) === JSON.stringify(names);
    });
  };
  return { page: await open(), open, show, viewers, roof, barn };
}

const followed = async (page) =>
  (await told(page)).filter(({ name }) => name === 'lead:subscribed').map(({ data }) => data.leadId);

// A real browser and a page for it: the stock client's bundle, served on a separate port like an application's pages.
//
// LEADWIRE_TEST_BROWSER is the path of a Chromium; by default, the usual install locations are searched.

import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { until } from './support.mjs';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];
const executablePath = process.env.LEADWIRE_TEST_BROWSER ?? PLACES.find((place) => existsSync(place));

/** Reason to skip the browser tests, or false. */
export const missing = executablePath
  ? false
  : 'Chromium is missing; on Debian get it with: apt-get install chromium (LEADWIRE_TEST_BROWSER names another one)';

const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

const bundle = readFileSync(new URL('node_modules/socket.io-client/dist/socket.io.min.js', import.meta.url));

// Subscribes once, like the guide's hook; with `again`, after every connect. `heard` and `socket` are for the test.
const PAGE = `<!doctype html><title>A page</title>
<script src="/socket.io.js"></script>
<script>
  const asked = new URLSearchParams(location.search);
  const transports = asked.get('transports');
  const heard = [];
  const socket = io(asked.get('server'), {
    auth: { token: asked.get('token') }, ...(transports && { transports: transports.split(',') }),
  });
  socket.onAny((name, data) => heard.push({ name, data }));
  const follow = () => asked.get('lead') && socket.emit('lead:subscribe', { leadId: asked.get('lead') });
  if (asked.get('again')) socket.on('connected', follow);
  else follow();
  addEventListener('pageshow', ({ persisted }) => persisted && heard.push({ name: 'restored' }));
</script>`;

/** Serves the page; returns its origin. */
export async function serve(t) {
  const server = createServer((request, response) => {
    const isBundle = request.url === '/socket.io.js';
    response.setHeader('content-type', isBundle ? 'text/javascript' : 'text/html').end(isBundle ? bundle : PAGE);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** A browser with its own profile, closed and deleted at the end of the test. */
export async function browse(t) {
  const profile = mkdtempSync(join(tmpdir(), 'leadwire-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath,
    headless: true,
    args: ARGS,
    // Pages enter the back-forward cache, as in normal use.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
  });
  t.after(async () => {
    await context.close();
    rmSync(profile, { recursive: true, force: true, maxRetries: 10 });
  });
  return context;
}

/** Events that a page received so far. */
export const told = (page) => page.evaluate('heard');

/** The first matching event of that name that a page receives. */
export async function hears(page, name, fits = () => true) {
  let heard = [];
  const find = async () => (heard = await told(page)).find((event) => event.name === name && fits(event.data));
  return (await until(() => `${name}, the page heard: ${JSON.stringify(heard)}`, find)).data;
}

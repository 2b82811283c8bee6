// The front ends of docs/FRONTENDS.md: built with Vite, and used in a real browser.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { browse, missing } from '../../../host/tests/node/browser.mjs';
import { emailOf, PASSWORD, Server, until } from '../../../host/tests/node/support.mjs';
import { project } from './project.mjs';

const page = readFileSync(new URL('../../../docs/FRONTENDS.md', import.meta.url), 'utf8');
const isCi = !['', '0', 'false', undefined].includes(process.env.CI);

/** What the templates of Vite contain around the files of the page. */
const MODULE =
  '<!doctype html><title>Leads</title><div id="app"></div><script type="module" src="/src/main.ts"></script>';
const TEMPLATES = {
  plain: {},
  react: {
    'index.html': MODULE.replace('main.ts', 'main.tsx'),
    'src/main.tsx': `
      import { createElement, StrictMode } from 'react';
      import { createRoot } from 'react-dom/client';
      import App from './App';
      createRoot(document.getElementById('app')!).render(createElement(StrictMode, null, createElement(App)));`,
    'vite.config.js': "import react from '@vitejs/plugin-react';\nexport default { plugins: [react()] };",
  },
  vue: {
    'index.html': MODULE,
    'src/main.ts': "import { createApp } from 'vue';\nimport App from './App.vue';\ncreateApp(App).mount('#app');",
    'vite.config.js': "import vue from '@vitejs/plugin-vue';\nexport default { plugins: [vue()] };",
  },
  svelte: {
    'index.html': MODULE,
    'src/main.ts': `
      import { mount } from 'svelte';
      import App from './App.svelte';
      mount(App, { target: document.getElementById('app')! });`,
    'vite.config.js': "import { svelte } from '@sveltejs/vite-plugin-svelte';\nexport default { plugins: [svelte()] };",
  },
};
const NAMES = Object.keys(TEMPLATES);

/** Files of the page: fences below a comment `<!-- file: a/path another/path -->`. */
function snippets() {
  const found = {};
  for (const [, paths, code] of page.matchAll(/^<!-- file: (.+) -->\n\n```\w+\n([^]*?)^```$/gm)) {
    for (const path of paths.split(' ')) found[path] = code;
  }
  return found;
}

/** Serves the builds, each below its name; returns the origin. */
async function serve(t, folder) {
  const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url, 'http://page').pathname).slice(1);
    const [name, ...rest] = path.split('/');
    const file = join(folder, name, 'dist', rest.join('/') || 'index.html');
    if (!existsSync(file)) return response.writeHead(404).end();
    response.setHeader('content-type', types[extname(file)] ?? 'text/plain').end(readFileSync(file));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

test('every snippet has at most 60 lines, and the page has one of each front end', () => {
  const files = snippets();
  assert.deepEqual([...new Set(Object.keys(files).map((path) => path.split('/')[0]))].sort(), [...NAMES].sort());
  for (const [path, code] of Object.entries(files)) assert.ok(code.trim().split('\n').length <= 60, path);
});

test('the front ends build with Vite, and their lists follow the server in a browser', async (t) => {
  const app = await project(t);
  const origin = await serve(t, app.folder);
  // Short lives of tokens: they are renewed during the test.
  const settings = [
    '[auth]\naccess_token_ttl = "4s"', '[presence]\ngrace = "100ms"\ninterval = "100ms"',
    `[http]\ncors_origins = ["${origin}"]`,
  ];
  const server = await Server.start(t, { settings: `${settings.join('\n')}\n` });
  for (const [path, code] of Object.entries(snippets())) {
    app.write({ [path]: code.replaceAll('http://localhost:3001', server.url) });
  }

  await t.test('the React code type-checks', async () => {
    const compilerOptions = {
      strict: true, noEmit: true, jsx: 'react-jsx', target: 'es2022', module: 'esnext', moduleResolution: 'bundler',
      lib: ['es2022', 'dom', 'dom.iterable'], types: [], skipLibCheck: true,
    };
    app.write({ 'react/tsconfig.json': JSON.stringify({ compilerOptions, include: ['src/App.tsx'] }) });
    await app.ownNode('typescript-7/bin/tsc', '--project', 'react');
  });

  for (const name of NAMES) {
    await t.test(`${name} builds`, async () => {
      for (const [path, content] of Object.entries(TEMPLATES[name])) app.write({ [`${name}/${path}`]: content });
      if (name === 'plain') {
        mkdirSync(join(app.folder, 'plain/public'));
        const bundle = join(app.folder, 'node_modules/@leadwire/client/dist/leadwire.js');
        copyFileSync(bundle, join(app.folder, 'plain/public/leadwire.js'));
      }
      await app.node('vite/bin/vite.js', 'build', name, '--base', `/${name}/`, '--logLevel', 'error');
    });
  }

  const skip = isCi ? false : missing;
  await t.test('in a browser', { skip }, async (t) => {
    assert.ok(!missing, missing);
    const context = await browse(t);
    for (const name of NAMES) await t.test(name, (t) => use(t, server, context, `${origin}/${name}/`));
    await t.test('two tabs renew one after the other', (t) => renew(t, server, context, `${origin}/plain/`));
  });
});

/** A viewer signs in and looks at leads that an administrator changes over HTTP. */
async function use(t, server, context, address) {
  const page = await open(t, context, address);
  const admin = async (method, path, body) => (await server.person('ADMIN')).api(method, path, body);
  const shows = (what, fits) => until(what, async () => fits(await page.locator('body').innerText()));
  const old = await admin('POST', '/api/leads', { title: 'An old roof' });

  await signIn(page, 'not the password');
  await page.getByText('e-mail', { exact: false }).first().waitFor();
  await signIn(page, PASSWORD);
  await shows('the lead', (text) => text.includes('Viewer User') && text.includes('An old roof (NEW)'));

  const lead = await admin('POST', '/api/leads', { title: 'A new barn' });
  await shows('the new lead', (text) => text.includes('A new barn (NEW)'));
  await admin('PATCH', `/api/leads/${lead.id}`, { status: 'WON' });
  await admin('DELETE', `/api/leads/${old.id}`);
  await shows('the changes', (text) => text.includes('A new barn (WON)') && !text.includes('An old roof'));

  await page.getByRole('button', { name: 'A new barn' }).click();
  await shows('the viewer', (text) => text.includes('Viewed by Viewer User'));
  await admin('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body: 'Call on Friday' });
  await shows('the activity', (text) => text.includes('Call on Friday'));

  await page.reload();
  await shows('the list after a reload', (text) => text.includes('A new barn (WON)'));
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  await shows('no leads', (text) => !text.includes('A new barn'));
  await admin('DELETE', `/api/leads/${lead.id}`);
}

/** No two tabs send the same refresh token, and a sign-out in one reaches the other. */
async function renew(t, server, context, address) {
  const sent = [];
  const listen = (page) => {
    page.on('request', (request) => {
      if (request.url().endsWith('/api/auth/refresh')) sent.push(JSON.parse(request.postData()).refreshToken);
    });
    return page;
  };
  const one = listen(await open(t, context, address));
  await signIn(one, PASSWORD);
  await one.getByText('Viewer User').waitFor();
  const other = listen(await open(t, context, address));
  await other.getByText('Viewer User').waitFor();

  // Both tabs find an expired token in the same instant. A write reaches the other process after some milliseconds.
  const key = `leadwire:${server.url}`;
  const stored = (page) => page.evaluate((key) => localStorage.getItem(key), key);
  const isSame = async () => (await stored(one)) === (await stored(other));
  const expire = (key) => {
    localStorage.setItem(key, JSON.stringify({ ...JSON.parse(localStorage.getItem(key)), expiresAt: 0 }));
  };
  const call = async ([url, at]) => {
    globalThis.client ??= globalThis.leadwire.createLeadwire({ url });
    while (Date.now() < at) await new Promise((fulfil) => setTimeout(fulfil));
    return (await globalThis.client.api.GET('/api/auth/me')).response.status;
  };
  while (sent.length < 10) {
    await until('the same tokens', isSame);
    await one.evaluate(expire, key);
    await until('the same expiry', isSame);
    const at = Date.now() + 50;
    const statuses = await Promise.all([one, other].map((page) => page.evaluate(call, [server.url, at])));
    assert.deepEqual(statuses, [200, 200]);
  }
  assert.deepEqual(sent.filter((token, at) => sent.indexOf(token) !== at), []);

  await one.getByRole('button', { name: 'Sign out' }).click();
  await other.getByRole('button', { name: 'Sign in' }).waitFor();
}

async function open(t, context, address) {
  const page = await context.newPage();
  t.after(() => page.close());
  page.on('pageerror', (error) => assert.fail(error));
  await page.goto(address);
  return page;
}

async function signIn(page, password) {
  await page.getByPlaceholder('E-mail').fill(emailOf('VIEWER'));
  await page.getByPlaceholder('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
}

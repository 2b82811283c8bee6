// Plugins are reloaded under connected clients: a valid file applies to the next event, an invalid one changes nothing.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { Server, builtPlugins, heard, until } from './support.mjs';

const hide = (...fields) => `[config]\nroles = ["VIEWER"]\nfields = ${JSON.stringify(fields)}\n`;

async function begin(t, plugins = { 'redact-contact': hide('email') }) {
  const server = await Server.start(t, { plugins });
  const [admin, viewer] = await Promise.all(['ADMIN', 'VIEWER'].map((role) => server.person(role)));
  const socket = await server.socket(viewer.token);
  socket.on('disconnect', (reason) => assert.equal(reason, 'io client disconnect', 'the socket was dropped'));
  const status = async (name = 'redact-contact') => {
    const answer = await admin.api('GET', '/api/plugins');
    return (answer.items ?? answer).find((plugin) => plugin.name === name);
  };
  const lead = await admin.api('POST', '/api/leads', { title: 'Roof' });
  let changes = 0;
  // The payload that the viewer gets for the next change.
  const next = async () => {
    const title = `Roof ${(changes += 1)}`;
    const contact = { email: `a${changes}@b.example`, phone: `555 ${changes}` };
    await admin.api('PATCH', `/api/leads/${lead.id}`, { title, ...contact });
    const told = (await heard(socket, 'lead:updated', ({ lead }) => lead.title === title)).lead;
    return Object.keys(contact).filter((field) => told[field] === contact[field]);
  };
  return { server, status, next };
}

test('new settings apply to the next event, and no socket is disconnected', async (t) => {
  const { server, status, next } = await begin(t);
  assert.deepEqual(await next(), ['phone']);
  const { generation } = await status();
  server.replace('redact-contact.toml', hide('phone'));
  await until('the next generation', async () => (await status()).generation > generation);
  assert.deepEqual(await next(), ['email']);
});

test('a rebuilt component applies to the next event', async (t) => {
  const { server, status, next } = await begin(t, {});
  await server.run(['plugin', 'new', 'probe']);
  server.replace('probe.toml', '[config]\nroles = ["VIEWER"]\n');
  const build = () => server.run(['plugin', 'build', 'probe', '--out', server.plugins]);
  await build();
  const { generation } = await until('the plugin to be active', async () => {
    const probe = await status('probe');
    return probe?.state === 'active' && probe;
  });
  assert.deepEqual(await next(), ['email']);

  const source = join(server.home, 'probe/src/lib.rs');
  writeFileSync(source, readFileSync(source, 'utf8').replaceAll('/lead/phone', '/lead/email'));
  await build();
  await until('the rebuilt one', async () => (await status('probe')).generation > generation);
  assert.deepEqual(await next(), ['phone']);
});

const good = () => readFileSync(join(builtPlugins, 'redact-contact.wasm'));
const bad = {
  'a torn file': () => good().subarray(0, good().length / 2),
  'a text file': () => 'This is no plugin.\n',
  'an empty file': () => '',
  'a core module': () => Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]),
};

for (const [what, content] of Object.entries(bad)) {
  test(`${what} keeps the old generation active and reports the reason`, async (t) => {
    const { server, status, next } = await begin(t);
    const before = await status();
    server.replace('redact-contact.wasm', content());
    const { reason, hash } = await until('a reason', async () => {
      const now = await status();
      return now?.reason && now;
    });
    assert.ok(reason.length > 10, reason);
    assert.equal(hash, before.hash);
    assert.deepEqual(await next(), ['phone']);
    server.plugin('redact-contact', hide('phone'));
    await until('the repaired one', async () => !(await status()).reason);
    assert.deepEqual(await next(), ['email']);
  });
}

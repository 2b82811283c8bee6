// A receiver with a Standard Webhooks library, as in plugins/audit-webhook/README.md, gets the events.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { Server, until } from './support.mjs';

const SECRET = 'whsec_bGVhZHdpcmUtd2ViaG9vay10ZXN0LXNlY3JldC0wMQ==';

/** Accepts messages; answers the first `failures` of them with 503. */
async function receiver(t, { failures = 0, secret = SECRET } = {}) {
  const webhook = new Webhook(secret);
  const messages = [];
  const refused = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks).toString();
    const id = request.headers['webhook-id'];
    try {
      const { type, timestamp, data } = webhook.verify(body, request.headers);
      if (refused.length < failures) {
        refused.push(id);
        return response.writeHead(503, { 'retry-after': '0' }).end('not yet');
      }
      messages.push({ id, type, timestamp, data, body, headers: request.headers, url: request.url });
      response.writeHead(204).end();
    } catch (error) {
      refused.push(String(error));
      response.writeHead(400).end('bad signature');
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { host: `127.0.0.1:${server.address().port}`, messages, refused, webhook };
}

const settings = (host, { networks = ['127.0.0.1/32'], grantedHost = host } = {}) => `
webhook_secret = "${SECRET}"
[config]
url = "http://${host}/in?team=7"
[grant]
effects = ["webhook"]
webhook_hosts = ["${grantedHost}"]
webhook_networks = ${JSON.stringify(networks)}
`;

async function begin(t, host, options) {
  const server = await Server.start(t, {
    settings: '[effects]\nfirst_delay = "20ms"\n',
    plugins: { 'audit-webhook': settings(host, options) },
  });
  return { server, admin: await server.person('ADMIN') };
}

test('events arrive signed, each once, with the configured fields', async (t) => {
  const { host, messages, refused, webhook } = await receiver(t);
  const { admin } = await begin(t, host);
  const lead = await admin.api('POST', '/api/leads', { title: 'Dächer', email: 'bob@miller.example' });
  await admin.api('PATCH', `/api/leads/${lead.id}`, { status: 'CONTACTED' });
  await admin.api('DELETE', `/api/leads/${lead.id}`);
  const types = () => messages.map(({ type }) => type).sort();
  const expected = ['activity.created', 'lead.created', 'lead.deleted', 'lead.updated'];
  await until(() => `all messages, got ${types()}, ${refused}`, () => messages.length === expected.length);
  assert.deepEqual(types(), expected);

  const [created] = messages.filter(({ type }) => type === 'lead.created');
  assert.equal(created.url, '/in?team=7');
  assert.match(created.headers['user-agent'], /^leadwire\/\d/);
  assert.equal(created.data.lead.title, 'Dächer');
  assert.equal(created.data.createdBy.id, admin.user.id);
  assert.ok(!created.body.includes('bob@miller.example'));
  assert.ok(!Number.isNaN(Date.parse(created.timestamp)));
  assert.equal(new Set(messages.map(({ id }) => id)).size, messages.length);
  const seqs = messages.map(({ data }) => data.seq).sort((a, b) => a - b);
  assert.deepEqual(seqs, [1, 2, 3, 4]);

  // The library rejects another body, id or time.
  const { body, headers } = created;
  assert.throws(() => webhook.verify(body.replace('Dächer', 'Doors'), headers));
  for (const name of ['webhook-id', 'webhook-timestamp']) {
    assert.throws(() => webhook.verify(body, { ...headers, [name]: `${headers[name].slice(0, -1)}x` }), name);
  }
});

test('an unavailable receiver gets the same message again', async (t) => {
  const { host, messages, refused } = await receiver(t, { failures: 2 });
  const { admin } = await begin(t, host);
  await admin.api('POST', '/api/leads', { title: 'Roof' });
  await until('the message', () => messages.length === 1);
  assert.deepEqual(refused, [messages[0].id, messages[0].id]);
});

test('a receiver in a network without a grant gets nothing, and the reason is reported', async (t) => {
  const { host, messages, refused } = await receiver(t);
  const { admin } = await begin(t, host, { networks: ['10.0.0.0/8'] });
  await admin.api('POST', '/api/leads', { title: 'Roof' });
  const parked = await until('it to be parked', async () => {
    const answer = await admin.api('GET', '/api/plugins/audit-webhook/effects?state=parked');
    return answer.items.length > 0 && answer.items;
  });
  assert.match(JSON.stringify(parked), /127\.0\.0\.1.*webhook_networks/);
  assert.deepEqual([messages, refused], [[], []]);
});

// The contract as programs of others read it: schemathesis against a real server, by role, and AsyncAPI's own parser.
//
// SCHEMATHESIS names the program. Each role is tried for a minute with CI set, otherwise for ten seconds.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ROLES, Server } from '../node/support.mjs';

const require = createRequire(new URL('../node/package.json', import.meta.url));
const SECONDS = process.env.CI ? 60 : 10;
const SEED = Number(process.env.LEADWIRE_SCHEMATHESIS_SEED ?? 20261129);

/** Checks of schemathesis that are left out, each with the reason. */
const LEFT_OUT = {
  // A schema cannot say that a cursor is of another list, that an e-mail address is taken, that an idempotency key was
  // used for another request, or that a lead has another version: all of that is refused with 400, 412 or 422.
  positive_data_acceptance: 'state decides',
  // `ADMIN` sees what every other role makes; the contract says so.
  object_level_authorization: 'roles, not owners, decide what is seen',
};

/** Operations that end the session under test. */
const ENDING = ['logout', 'logoutAll', 'changePassword'];

function run(command, args, options) {
  return new Promise((fulfil, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (output += text));
    child.on('error', reject);
    child.on('exit', (code) => fulfil({ code, output }));
  });
}

const plugins = { 'redact-contact': '[config]\nroles = ["VIEWER"]\nfields = ["email", "phone"]\n', 'lead-score': '' };

for (const role of ROLES) {
  test(`schemathesis finds nothing as ${role}`, async (t) => {
    const server = await Server.start(t, { settings: '[auth]\naccess_token_ttl = "30m"\n', plugins });
    const { token } = await server.person(role);
    const { api } = await server.person('ADMIN');
    for (let number = 0; number < 20; number += 1) {
      const lead = await api('POST', '/api/leads', { title: `Lead ${number}`, email: `lead${number}@example.com` });
      await api('POST', `/api/leads/${lead.id}/activities`, { type: 'NOTE', body: 'hello' });
    }
    const home = mkdtempSync(join(tmpdir(), 'leadwire-schemathesis-'));
    t.after(() => rmSync(home, { recursive: true, force: true }));
    const { code, output } = await run(process.env.SCHEMATHESIS, [
      '--config-file', fileURLToPath(new URL('schemathesis.toml', import.meta.url)), 'run', `${server.url}/api/openapi.json`, '--header', `Authorization: Bearer ${token}`, '--seed', String(SEED),
      '--max-time', String(SECONDS), '--checks', 'all', '--exclude-checks', Object.keys(LEFT_OUT).join(','),
      ...ENDING.flatMap((operation) => ['--exclude-operation-id', operation]),
      '--continue-on-failure', '--warnings', 'off', '--output-truncate', 'true',
    ], { cwd: home });
    assert.equal(code, 0, `seed ${SEED}\n${output}`);
    const cases = Number(/(\d+) generated/.exec(output)?.[1]);
    assert.ok(cases > 100, `only ${cases} cases\n${output}`);
    t.diagnostic(`${cases} cases`);
  });
}

test("AsyncAPI's parser accepts the document of events", async () => {
  const { Parser } = require('@asyncapi/parser');
  const text = readFileSync(new URL('../../../docs/asyncapi.json', import.meta.url), 'utf8');
  const { document, diagnostics } = await new Parser().parse(text);
  const errors = diagnostics.filter(({ severity }) => severity === 0);
  assert.deepEqual(errors.map(({ message, path }) => `${path.join('.')}: ${message}`), []);
  assert.ok(document.messages().length > 30);
});

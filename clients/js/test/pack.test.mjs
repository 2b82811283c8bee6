// The package as `npm pack` makes it: its files, and its use in an empty Vite project.

import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { execFile } from 'node:child_process';
import { runInNewContext } from 'node:vm';
import { project } from './project.mjs';

const run = promisify(execFile);
const client = fileURLToPath(new URL('..', import.meta.url));

const MAIN = `
import { createLeadwire, LeadwireError, unwrap, type Lead } from '@leadwire/client';
import { Leadwire } from '@leadwire/client/min';
import { io } from 'socket.io-client';

const leadwire = createLeadwire({ url: 'http://localhost:3001' });
leadwire.on('lead:updated', ({ lead, changes }) => show(lead, changes));
leadwire.on('signedOut', ({ reason }) => document.body.append(reason));

function show(lead: Lead, changes: string[]) {
  const owner: string | undefined = lead.owner?.name;
  document.body.append(lead.title ?? '', owner ?? '', changes.join());
}

export async function main(): Promise<number> {
  await leadwire.login('viewer@leadwire.example', 'viewer-demo-pass');
  await leadwire.connect();
  const { items } = await unwrap(leadwire.api.GET('/api/leads', { params: { query: { status: ['NEW', 'WON'] } } }));
  for (const lead of items) show(lead, []);
  // @ts-expect-error a lead has no such member
  await leadwire.createLead({ titel: 'Roof' });
  try {
    return (await leadwire.updateLead(items[0]!.id, { status: 'WON' })).seq;
  } catch (error) {
    return error instanceof LeadwireError ? (error.retryAfterMs ?? 0) : -1;
  }
}

export const helper = new Leadwire(io({ autoConnect: false }), { refresh: async () => 'token' });
void main();
`;

// Like the template of Vite, but the types of the packages are checked too.
const TSCONFIG = {
  compilerOptions: {
    target: 'es2022',
    module: 'esnext',
    moduleResolution: 'bundler',
    lib: ['es2022', 'dom', 'dom.iterable'],
    types: [],
    strict: true,
    noUncheckedIndexedAccess: true,
    noEmit: true,
    skipLibCheck: false,
  },
  include: ['src'],
};

test('the packed package compiles under TypeScript 5.9, 6 and 7, builds with Vite, and runs in Node.js', async (t) => {
  const app = await project(t);
  for (const path of [
    'README.md', 'dist/index.js', 'dist/index.d.ts', 'dist/events.d.ts', 'dist/generated/api.d.ts',
    'dist/leadwire.min.js', 'dist/leadwire.js', 'dist/leadwire.js.LICENSES.txt',
  ]) {
    assert.ok(app.files.includes(path), `${path} in ${app.files}`);
  }
  assert.deepEqual(app.files.filter((path) => !/^(dist\/.*|README\.md|package\.json)$/.test(path)), []);

  app.write({
    'index.html': '<!doctype html><title>App</title><script type="module" src="/src/main.ts"></script>',
    'src/main.ts': MAIN,
    'tsconfig.json': JSON.stringify(TSCONFIG),
  });
  for (const [compiler, version] of [['typescript', /^5\.9\./], ['typescript-6', /^6\./], ['typescript-7', /^7\./]]) {
    const { version: installed } = JSON.parse(readFileSync(join(client, `node_modules/${compiler}/package.json`)));
    assert.match(installed, version);
    await app.ownNode(`${compiler}/bin/tsc`);
  }

  await app.node('vite/bin/vite.js', 'build', '--logLevel', 'warn');
  assert.deepEqual(readdirSync(join(app.folder, 'dist')).sort(), ['assets', 'index.html']);

  const require = createRequire(join(app.folder, 'application.js'));
  const { createLeadwire } = await import(require.resolve('@leadwire/client'));
  assert.equal(createLeadwire({ url: 'http://localhost:3001' }).user, undefined);
  for (const name of ['@leadwire/client', '@leadwire/client/realtime', '@leadwire/client/min']) {
    const { Leadwire } = await import(require.resolve(name));
    assert.equal(typeof Leadwire.prototype.connect, 'function');
  }
});

test('the bundle for a script element defines only the global leadwire', () => {
  const page = { location: { origin: 'http://localhost:3001' }, setTimeout, clearTimeout, URL };
  const before = new Set(Object.keys(page));
  runInNewContext(readFileSync(join(client, 'dist/leadwire.js'), 'utf8'), page);
  assert.deepEqual(Object.keys(page).filter((name) => !before.has(name)), ['leadwire']);
  assert.equal(page.leadwire.createLeadwire().user, undefined);
});

describe('generated types', () => {
  const generate = (root, ...args) => run(process.execPath, [join(root, 'clients/js/scripts/generate.mjs'), ...args]);

  test('they are those of the documents', () => generate(join(client, '../..'), '--check'));

  test('after a member is renamed in the documents, the check fails, and then the build fails', async (t) => {
    const root = mkdtempSync(join(tmpdir(), 'leadwire-types-'));
    t.after(() => rmSync(root, { recursive: true, force: true }));
    const copy = join(root, 'clients/js');
    for (const name of ['scripts', 'src', 'test/types.ts', 'test/tsconfig.json', 'tsconfig.json', 'package.json']) {
      cpSync(join(client, name), join(copy, name), { recursive: true });
    }
    symlinkSync(join(client, 'node_modules'), join(copy, 'node_modules'));
    cpSync(join(client, '../../docs'), join(root, 'docs'), { recursive: true });
    const tsc = () => run(process.execPath, ['node_modules/typescript-7/bin/tsc', '--project', 'test'], { cwd: copy });
    await generate(root);
    await generate(root, '--check');
    await tsc();

    for (const name of ['openapi.json', 'asyncapi.json']) {
      const document = JSON.parse(readFileSync(join(root, 'docs', name)));
      const { properties } = document.components.schemas.Lead;
      properties.headline = properties.title;
      delete properties.title;
      writeFileSync(join(root, 'docs', name), JSON.stringify(document));
    }
    await assert.rejects(generate(root, '--check'), /src\/generated\/api\.ts differs/);
    await generate(root);
    await assert.rejects(tsc(), ({ stdout }) => /error TS\d+/.test(stdout));
  });
});

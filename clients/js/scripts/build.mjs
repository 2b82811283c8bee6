// Builds `dist/`: the modules with their types, the minified helper, and the bundle for pages without a bundler, with
// the licences of the packages in it.

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const tsc = (...args) => {
  execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', ...args], { cwd: root, stdio: 'inherit' });
};

rmSync(new URL('../dist', import.meta.url), { recursive: true, force: true });
tsc();
tsc('--project', 'test');

const options = { absWorkingDir: root, minify: true, target: 'es2020', logLevel: 'warning' };

// Names of private members of the helper; other names must stay.
const PRIVATE = [
  'advance', 'answer', 'callers', 'catchingUp', 'followed', 'greeted', 'isIn', 'listeners', 'newest', 'refuse',
  'refusedToConnect', 'remember', 'renewed', 'renewing', 'wanted',
];

await build({
  ...options,
  entryPoints: ['dist/realtime.js'],
  outfile: 'dist/leadwire.min.js',
  format: 'esm',
  mangleProps: new RegExp(`^(${PRIVATE.join('|')})$`),
});

const { metafile } = await build({
  ...options,
  entryPoints: ['dist/browser.js'],
  outfile: 'dist/leadwire.js',
  bundle: true,
  format: 'iife',
  platform: 'browser',
  metafile: true,
});

const bundled = Object.keys(metafile.inputs).map((path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]);
const licences = [...new Set(bundled.filter(Boolean))].sort().map((name) => {
  const folder = new URL(`../node_modules/${name}/`, import.meta.url);
  const { version, license } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8'));
  const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
  return `${name} ${version} (${license})\n\n${file ? readFileSync(new URL(file, folder), 'utf8').trim() : ''}\n`;
});
writeFileSync(new URL('../dist/leadwire.js.LICENSES.txt', import.meta.url), licences.join('\n----------\n\n'));

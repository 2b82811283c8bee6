// Puts the files that the server serves to front ends into `assets/`: the package, the bundle for plain pages, and
// socket.io-client. The server builds in what it finds there.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const assets = join(root, 'assets');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

for (const name of readdirSync(assets)) if (name !== '.gitignore') rmSync(join(assets, name), { recursive: true });

const folder = mkdtempSync(join(tmpdir(), 'leadwire-pack-'));
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
execFileSync(npm, ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], { cwd: root });
const [packed] = readdirSync(folder);
const hash = createHash('sha256').update(readFileSync(join(folder, packed))).digest('hex').slice(0, 12);
copyFileSync(join(folder, packed), join(assets, `leadwire-client-${version}-${hash}.tgz`));
rmSync(folder, { recursive: true });

copyFileSync(join(root, 'dist/leadwire.js'), join(assets, 'leadwire.js'));
copyFileSync(join(root, 'node_modules/socket.io-client/dist/socket.io.min.js'), join(assets, 'socket.io.js'));

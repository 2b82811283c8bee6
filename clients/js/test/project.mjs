// A Vite project in a temporary folder, with the packed client installed in it like in an application.

import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const client = fileURLToPath(new URL('..', import.meta.url));

/** Installs the pinned packages of `apps/` and the client, as `npm pack` makes it of the last build. */
export async function project(t) {
  const folder = mkdtempSync(join(tmpdir(), 'leadwire-app-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const npm = (cwd, ...args) => run('npm', [...args, '--prefer-offline', '--no-audit', '--no-fund'], { cwd });

  const { stdout } = await npm(client, 'pack', '--json', '--ignore-scripts', '--pack-destination', folder);
  const [{ filename, files }] = JSON.parse(stdout);
  for (const name of ['package.json', 'package-lock.json']) cpSync(join(client, 'test/apps', name), join(folder, name));
  await npm(folder, 'ci', '--ignore-scripts');
  await npm(folder, 'install', '--ignore-scripts', `./${filename}`);

  return {
    folder,
    files: files.map(({ path }) => path).sort(),

    write(contents) {
      for (const [name, content] of Object.entries(contents)) {
        mkdirSync(dirname(join(folder, name)), { recursive: true });
        writeFileSync(join(folder, name), content);
      }
    },

    /** Runs a script of a package of the project, or of the client's own `node_modules`. */
    node: (script, ...args) => node(folder, join(folder, 'node_modules', script), args),
    ownNode: (script, ...args) => node(folder, join(client, 'node_modules', script), args),
  };
}

/** Standard output of the script; rejects with everything that it printed. */
async function node(cwd, script, args) {
  try {
    const { stdout } = await run(process.execPath, [script, ...args], { cwd });
    return stdout;
  } catch (error) {
    throw new Error(`${script} ${args.join(' ')}: ${error.message}\n${error.stdout}\n${error.stderr}`);
  }
}

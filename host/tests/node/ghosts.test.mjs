// Ghost rows: a client that fetched `GET /api/leads` once and then applies events has the same list as `GET /api/leads`,
// despite changes of owners, roles, plugins, `[visibility]` and accounts, kills and lost connections.
//
// LEADWIRE_GHOSTS_SEED reproduces a run, except for timing; every run prints its seed. LEADWIRE_GHOSTS_CLIENTS and
// LEADWIRE_GHOSTS_WRITES set the size, LEADWIRE_GHOSTS_TURNS (such as `role,kill`) the kinds of disturbance.
// LEADWIRE_GHOSTS_NODES (addresses, comma-separated) and LEADWIRE_GHOSTS_ADMIN (email:password) use existing nodes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { World } from './ghosts.mjs';
import { dice } from './support.mjs';

const { env } = process;
const SEED = Number(env.LEADWIRE_GHOSTS_SEED ?? Math.floor(Math.random() * 2 ** 31));
const CLIENTS = Number(env.LEADWIRE_GHOSTS_CLIENTS ?? 40);
const WRITES = Number(env.LEADWIRE_GHOSTS_WRITES ?? (env.CI ? 3000 : 1000));
const NODES = (env.LEADWIRE_GHOSTS_NODES ?? '').split(',').filter(Boolean);
const KINDS = (env.LEADWIRE_GHOSTS_TURNS ?? 'plugin,role,user,page,logout,kill,restart').split(',');
const [email, password] = (env.LEADWIRE_GHOSTS_ADMIN ?? '').split(/:(.*)/);

const ROUNDS = 6;
const TURNS = ['plugin', 'role', 'plugin', 'user', 'page', 'plugin', 'role', 'logout', 'user'];
/** One of them happens in the middle of each round. */
const ENDS = ['kill', 'restart'];

test(`${CLIENTS} lists match the API after ${WRITES} writes and changes of visibility`, async (t) => {
  console.log(`LEADWIRE_GHOSTS_SEED=${SEED} LEADWIRE_GHOSTS_CLIENTS=${CLIENTS} LEADWIRE_GHOSTS_WRITES=${WRITES}`);
  const began = performance.now();
  const world = await World.build(t, { clients: CLIENTS, seed: SEED, nodes: NODES, admin: email ? { email, password } : undefined });
  const built = performance.now();
  const chance = dice(SEED);
  for (let round = 0; round < ROUNDS; round += 1) {
    const turns = TURNS.map((turn) => ({ turn, place: chance.next() })).sort((one, other) => one.place - other.place);
    const names = turns.map(({ turn }) => turn);
    names.splice(4, 0, ENDS[round % ENDS.length]);
    const wrong = await world.round(Math.ceil(WRITES / ROUNDS), names.filter((name) => KINDS.includes(name)));
    if (!wrong.length) continue;
    const rows = wrong.reduce((sum, { found }) => sum + found.length, 0);
    const about = [];
    for (const entry of wrong.slice(0, 3)) about.push(await world.diagnose(entry));
    assert.fail(`round ${round + 1}: ${rows} rows of ${wrong.length} lists are wrong (LEADWIRE_GHOSTS_SEED=${SEED})\n\n${about.join('\n\n')}`);
  }
  assert.deepEqual(world.faults, []);
  const sum = (count) => world.clients.reduce((total, client) => total + count(client), 0);
  const [resets, recoveries] = [sum(({ resets }) => resets), sum(({ recoveries }) => recoveries)];
  const seconds = (from, to) => Math.round((to - from) / 1000);
  console.log(`${world.written} writes ${JSON.stringify(world.statuses)}, ${JSON.stringify(world.counts)}, ${world.witness.seq} events, ` +
    `${resets} resets, ${recoveries} recoveries, ${world.proxy?.cuts ?? 0} cuts, ${world.comparisons} lists compared, ` +
    `${seconds(began, built)} s to build, ${seconds(built, performance.now())} s to run`);
  if (!NODES.length && !env.LEADWIRE_GHOSTS_TURNS) assert.ok(resets > CLIENTS && recoveries > CLIENTS / 2, 'much was lost and much was reset');
});

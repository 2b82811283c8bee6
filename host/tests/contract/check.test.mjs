// The check of the record notices what it is there for.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { check, Contract } from './check.mjs';

const contract = new Contract();
const lead = { id: '0190a8c1-7b4e-7c3a-9f11-3a5d0c6f2b10', title: 'Roof', version: 1, rev: 1 };
const answer = (name, body) => ({ what: 'answer', name, body });
const problem = (status, code, more = {}) =>
  ({ type: 'about:blank', title: 'No', status, detail: 'no', code, requestId: 'x', ...more });
const fault = (line) => check(contract, [line], contract.declared()).faults[0];

test('what is declared has no fault', () => {
  assert.equal(fault(answer('GET /api/leads/{id} 200', lead)), undefined);
  assert.equal(fault(answer('HEAD /api/leads/{id} 200', null)), undefined);
  assert.equal(fault(answer('GET /api/leads/{id} 404', problem(404, 'lead_not_found'))), undefined);
  assert.equal(fault(answer('POST /api/leads 422', problem(422, 'a_plugins_own'))), undefined);
  assert.equal(fault({ what: 'event', name: 'sync:done', body: { seq: 7 } }), undefined);
  assert.equal(fault({ what: 'ack', name: 'lead:create', body: { ok: true, seq: 7, lead } }), undefined);
});

test('a made-up status, code, operation or event is a fault', () => {
  assert.match(fault(answer('GET /api/leads/{id} 418', null)), /readLead answers 418, which is not declared/);
  assert.match(fault(answer('GET /api/leads/{id} 404', problem(404, 'gone'))), /readLead answers 404 gone/);
  assert.match(fault(answer('GET /api/leads/{id} 422', problem(422, 'a_plugins_own'))), /readLead answers 422/);
  assert.match(fault(answer('GET /api/ghosts 200', {})), /GET \/api\/ghosts is not declared/);
  assert.match(fault({ what: 'event', name: 'lead:exploded', body: {} }), /lead:exploded is not declared/);
  assert.match(fault({ what: 'ack', name: 'lead:explode', body: {} }), /lead:explode is not declared/);
});

test('a missing, unknown or wrong member is a fault', () => {
  const user = { id: lead.id, name: 'Ann', email: 'ann@example.com', role: 'ADMIN', active: true };
  const times = { createdAt: '2023-12-01T00:00:00.000Z', updatedAt: '2023-12-01T00:00:00.000Z' };
  assert.equal(fault(answer('GET /api/auth/me 200', { ...user, ...times })), undefined);
  assert.match(fault(answer('GET /api/auth/me 200', user)), /createdAt/);
  assert.match(fault(answer('GET /api/auth/me 200', { ...user, ...times, colour: 'red' })), /colour/);
  assert.match(fault(answer('GET /api/auth/me 200', { ...user, ...times, active: 1 })), /active/);
  assert.match(fault(answer('GET /api/auth/me 200', { ...user, ...times, createdAt: 'soon' })), /createdAt/);
  assert.match(fault(answer('GET /api/leads/{id} 404', problem(404, 'lead_not_found', { hint: 'x' }))), /hint/);
  assert.match(fault({ what: 'event', name: 'sync:done', body: {} }), /seq/);
});

test('what is declared and never seen has to be on the list', () => {
  const { untested } = check(contract, [], new Set());
  assert.ok(untested.includes('readLead 200') && untested.includes('event lead:updated'), untested.join());
  const seen = check(contract, [answer('GET /api/leads/{id} 200', lead)], new Set(untested));
  assert.deepEqual(seen.untested, []);
  assert.deepEqual(seen.tested, ['readLead 200']);
});

test('no entry of the list is unknown', () => {
  const text = readFileSync(new URL('unseen.txt', import.meta.url), 'utf8');
  const all = new Set(check(contract, [], new Set()).unseen);
  assert.deepEqual(text.split('\n').filter((line) => line && !line.startsWith('#') && !all.has(line)), []);
});

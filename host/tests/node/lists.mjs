// A client's list of leads, kept like in the README of clients/js: fetched once, then updated only by events.

import { isDeepStrictEqual } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';

export const LIST_EVENTS = ['lead:created', 'lead:updated', 'lead:assigned', 'lead:deleted', 'lead:revoked'];
/** Number of recorded events per lead. */
const REMEMBERED = 40;

export class LeadList {
  /** `read` fetches a path of the API as this client's user. */
  constructor(read) {
    Object.assign(this, { read, leads: new Map(), touched: new Set(), notes: new Map(), asked: 0, fetches: 0, isOver: false });
  }

  /** Applies an event. */
  take(name, event) {
    const id = event.lead?.id ?? event.leadId;
    this.touched.add(id);
    this.note(id, `seq ${event.seq} ${name} ${brief(event.lead)}`);
    if (event.lead) this.put(event.lead);
    else this.leads.delete(id);
  }

  put(lead) {
    const isOlder = lead.rev < this.leads.get(lead.id)?.rev;
    if (!isOlder) this.leads.set(lead.id, lead);
  }

  /** Fetches everything again, and once more if that was requested in the meantime. */
  fetch() {
    this.asked += 1;
    return (this.fetching ??= this.fetchAll().finally(() => (this.fetching = undefined)));
  }

  async fetchAll() {
    for (let begun; begun !== this.asked && !this.isOver; ) {
      begun = this.asked;
      this.touched = new Set();
      try {
        this.merge(await walk(this.read));
      } catch (error) {
        // The server is being killed, or the user was logged out: until the retry the list is known to be stale.
        this.failure = error;
        begun = undefined;
        await sleep(100);
      }
    }
  }

  merge(found) {
    this.fetches += 1;
    for (const lead of found.values()) {
      this.note(lead.id, `fetch ${this.fetches} ${brief(lead)}`);
      if (!this.touched.has(lead.id) || lead.rev > this.leads.get(lead.id)?.rev) this.put(lead);
    }
    for (const id of this.leads.keys()) {
      if (found.has(id) || this.touched.has(id)) continue;
      this.note(id, `fetch ${this.fetches} without it`);
      this.leads.delete(id);
    }
  }

  note(id, text) {
    const notes = this.notes.get(id) ?? [];
    this.notes.set(id, notes);
    notes.push(text);
    if (notes.length > REMEMBERED) notes.splice(0, 1);
  }
}

/** Every lead that the API lists, page by page. */
export async function walk(read) {
  const found = new Map();
  for (let cursor = ''; cursor !== null; ) {
    const { items, nextCursor } = await read(`/api/leads?sort=createdAt&limit=200&cursor=${encodeURIComponent(cursor)}`);
    for (const lead of items) found.set(lead.id, lead);
    cursor = nextCursor;
  }
  return found;
}

/** Differences between a list and the API: ghost rows, missing rows, and rows with stale fields. */
export function differences(shown, listed) {
  const found = [];
  for (const [id, lead] of shown) {
    if (!listed.has(id)) found.push({ id, what: 'ghost', fields: [] });
    else {
      const [here, there] = [settled(lead), settled(listed.get(id))];
      const fields = [...new Set([...Object.keys(here), ...Object.keys(there)])];
      const old = fields.filter((field) => !isDeepStrictEqual(here[field], there[field]));
      const values = (field) => ({ field, shown: here[field], listed: there[field] });
      if (old.length) found.push({ id, what: 'stale', fields: old.map(values) });
    }
  }
  for (const id of listed.keys()) if (!shown.has(id)) found.push({ id, what: 'missing', fields: [] });
  return found;
}

/** A lead without the fields that change without an event of the lead. */
function settled({ lastActivityAt, rev, ...lead }) {
  const known = (person) => (person ? { id: person.id } : person);
  if ('owner' in lead) lead.owner = known(lead.owner);
  if ('createdBy' in lead) lead.createdBy = known(lead.createdBy);
  return lead;
}

/** The fields of a lead that decide its visibility and age. */
export function brief(lead) {
  if (!lead) return '';
  const { rev, version, status, title, owner, custom } = lead;
  return JSON.stringify({ rev, version, status, title, owner: owner?.id ?? owner, territory: custom?.territory });
}

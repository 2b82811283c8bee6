/**
 * Lists that stay right: fetched after `connected`, then changed by events, and fetched again after `reset`.
 *
 * A watch works while it has listeners. `subscribe` and `get` have the form that Svelte's stores and React's
 * `useSyncExternalStore` take.
 */
import type { LeadwireClient } from './client.js';
import { LeadwireError, unwrap } from './error.js';
import type { Activity, Lead, Person } from './events.js';

export interface Watched<View> {
  /** Calls the listener at once and after every change; returns a function that removes it. */
  subscribe: (listener: (view: View) => void) => () => void;
  /** The same object until the next change. */
  get: () => View;
}

export interface LeadsView {
  leads: readonly Lead[];
  /** False until the first fetch is complete. */
  isLoaded: boolean;
}

export interface LeadView {
  /** Undefined until it was fetched, and when it was deleted or may no longer be seen. */
  lead: Lead | undefined;
  /** Newest first. */
  activities: readonly Activity[];
  viewers: readonly Person[];
  /** Number of viewers; `viewers` lists the first hundred. */
  viewerCount: number;
  isLoaded: boolean;
}

const LEADS_PER_PAGE = 200;
const LATEST_ACTIVITIES = 100;
const RETRY_MS = 2000;

export function watchLeads(client: LeadwireClient): Watched<LeadsView> {
  const leads = new Map<string, Lead>();
  /** Leads that events were about since the fetch under way began. */
  let touched = new Set<string>();
  let isLoaded = false;

  const put = (lead: Lead) => {
    if (!((lead.rev ?? 0) < (leads.get(lead.id)?.rev ?? 0))) leads.set(lead.id, lead);
  };

  const fetchAll: Fetch = async (isCurrent) => {
    touched = new Set();
    const found = new Set<string>();
    for (let cursor: string | null = ''; cursor !== null; ) {
      const query: { sort: 'createdAt'; limit: number; cursor?: string } = { sort: 'createdAt', limit: LEADS_PER_PAGE };
      if (cursor) query.cursor = cursor;
      const page = await unwrap(client.api.GET('/api/leads', { params: { query } }));
      if (!isCurrent()) return;
      for (const lead of page.items) {
        found.add(lead.id);
        // A lead that an event has just taken away is not brought back by what was read before.
        if (!touched.has(lead.id) || leads.has(lead.id)) put(lead);
      }
      cursor = page.nextCursor;
    }
    for (const id of leads.keys()) if (!found.has(id) && !touched.has(id)) leads.delete(id);
    isLoaded = true;
  };

  return watch<LeadsView>({
    view: () => ({ leads: [...leads.values()].sort(newestFirst), isLoaded }),
    start(changed, fetching) {
      const change = (id: string, apply: () => void) => {
        touched.add(id);
        apply();
        changed();
      };
      const putEvent = ({ lead }: { lead: Lead }) => change(lead.id, () => put(lead));
      const removeEvent = ({ leadId }: { leadId: string }) => change(leadId, () => leads.delete(leadId));
      if (client.socket.connected && client.position) fetching(fetchAll);
      return [
        client.on('lead:created', putEvent),
        client.on('lead:updated', putEvent),
        client.on('lead:assigned', putEvent),
        client.on('lead:deleted', removeEvent),
        client.on('lead:revoked', removeEvent),
        // After a resume, events bring what was missed.
        client.on('connected', ({ recovered }) => (recovered && isLoaded) || fetching(fetchAll)),
        client.on('reset', () => fetching(fetchAll)),
      ];
    },
    forget() {
      leads.clear();
      isLoaded = false;
    },
  }, client);
}

export function watchLead(client: LeadwireClient, leadId: string): Watched<LeadView> {
  const activities = new Map<string, Activity>();
  let touched = new Set<string>();
  let lead: Lead | undefined;
  let viewers: { users?: readonly Person[]; total?: number } = {};
  let isLoaded = false;

  const fetchLead: Fetch = async (isCurrent) => {
    touched = new Set();
    const path = { id: leadId };
    try {
      const query = { limit: LATEST_ACTIVITIES };
      const [found, page] = await Promise.all([
        unwrap(client.api.GET('/api/leads/{id}', { params: { path } })),
        unwrap(client.api.GET('/api/leads/{id}/activities', { params: { path, query } })),
      ]);
      if (!isCurrent()) return;
      if (!touched.has(leadId) || (lead && (found.rev ?? 0) > (lead.rev ?? 0))) lead = found;
      const kept = page.items.filter(({ id }) => !touched.has(id));
      for (const id of activities.keys()) if (!touched.has(id)) activities.delete(id);
      for (const activity of kept) activities.set(activity.id, activity);
    } catch (error) {
      if (!isCurrent()) return;
      if (!(error instanceof LeadwireError) || error.status !== 404) throw error;
      lead = undefined;
      activities.clear();
    }
    isLoaded = true;
  };

  return watch<LeadView>({
    view: () => ({
      lead,
      activities: [...activities.values()].sort(newestFirst),
      viewers: viewers.users ?? [],
      viewerCount: viewers.total ?? viewers.users?.length ?? 0,
      isLoaded,
    }),
    start(changed, fetching) {
      const change = (id: string, apply: () => void) => {
        touched.add(id);
        apply();
        changed();
      };
      const putEvent = ({ lead: next }: { lead: Lead }) => {
        const isOlder = (next.rev ?? 0) < (lead?.rev ?? 0);
        if (next.id === leadId && !isOlder) change(leadId, () => (lead = next));
      };
      const removeEvent = (event: { leadId: string }) => {
        if (event.leadId !== leadId) return;
        change(leadId, () => (lead = undefined));
        activities.clear();
      };
      const putActivity = ({ activity, ...event }: { activity: Activity; leadId: string }) => {
        if (event.leadId === leadId) change(activity.id, () => activities.set(activity.id, activity));
      };
      // Live events of the lead arrive from `lead:subscribed` on: only then does a fetch miss nothing. A lead that is
      // followed already is confirmed again, with its viewers.
      hold(client, leadId);
      return [
        client.on('lead:created', putEvent),
        client.on('lead:updated', putEvent),
        client.on('lead:assigned', putEvent),
        client.on('lead:deleted', removeEvent),
        client.on('lead:revoked', removeEvent),
        client.on('activity:created', putActivity),
        client.on('activity:updated', putActivity),
        client.on('activity:deleted', ({ activityId }) => change(activityId, () => activities.delete(activityId))),
        client.on('lead:viewers', (event) => {
          if (event.leadId === leadId) change('', () => (viewers = event));
        }),
        client.on('connected', ({ recovered }) => {
          isLoaded &&= recovered;
          // `disconnect` forgets the followed leads.
          if (!client.leads.has(leadId)) client.follow(leadId);
        }),
        client.on('lead:subscribed', (event) => {
          if (event.leadId === leadId && !isLoaded) fetching(fetchLead);
        }),
        client.on('reset', () => fetching(fetchLead)),
      ];
    },
    forget() {
      activities.clear();
      lead = undefined;
      viewers = {};
      isLoaded = false;
    },
    stop: () => release(client, leadId),
  }, client);
}

/** Number of watches per lead: the last one ends the subscription. */
const held = new WeakMap<LeadwireClient, Map<string, number>>();

function hold(client: LeadwireClient, leadId: string): void {
  const counts = held.get(client) ?? new Map<string, number>();
  held.set(client, counts.set(leadId, (counts.get(leadId) ?? 0) + 1));
  client.follow(leadId);
}

function release(client: LeadwireClient, leadId: string): void {
  const counts = held.get(client)!;
  const count = counts.get(leadId)! - 1;
  counts.set(leadId, count);
  if (count > 0) return;
  counts.delete(leadId);
  client.unfollow(leadId);
}

/** Fetches the data. `isCurrent` is false once nobody listens or another user is signed in. */
type Fetch = (isCurrent: () => boolean) => Promise<void>;

interface Source<View> {
  view: () => View;
  /** Adds listeners; returns functions that remove them. */
  start: (changed: () => void, fetching: (fetch: Fetch) => void) => (() => void)[];
  /** Forgets the data: it belongs to another user, or nothing keeps it right any more. */
  forget: () => void;
  /** The last listener is gone. */
  stop?: () => void;
}

function watch<View>(source: Source<View>, client: LeadwireClient): Watched<View> {
  const listeners = new Set<(view: View) => void>();
  let view = source.view();
  let stops: (() => void)[] = [];
  let isTelling = false;
  /** One fetch after the other; one that waits stands for all that are asked for meanwhile. */
  let fetched = Promise.resolve();
  let waiting = 0;
  /** Grows when the data is forgotten: a fetch that began before has no effect. */
  let run = 1;

  // Many events may arrive at once, for example after a reconnect.
  const changed = () => {
    if (isTelling) return;
    isTelling = true;
    queueMicrotask(() => {
      isTelling = false;
      view = source.view();
      for (const listener of [...listeners]) listener(view);
    });
  };

  const fetching = (fetch: Fetch) => {
    if (waiting === run) return;
    const mine = (waiting = run);
    const isCurrent = () => mine === run;
    fetched = fetched.then(async () => {
      if (!isCurrent()) return;
      waiting = 0;
      try {
        await fetch(isCurrent);
      } catch {
        // `signedOut` reports an ended session; anything else may pass.
        if (client.user) setTimeout(() => isCurrent() && fetching(fetch), RETRY_MS);
      }
      if (isCurrent()) changed();
    });
  };

  const forget = () => {
    run += 1;
    source.forget();
  };

  return {
    subscribe(listener) {
      if (listeners.size === 0) {
        let userId = client.user?.id;
        stops = [
          ...source.start(changed, fetching),
          client.on('user', (user) => {
            if (user?.id === userId) return;
            userId = user?.id;
            forget();
            changed();
          }),
        ];
      }
      listeners.add(listener);
      listener(view);
      return () => {
        if (!listeners.delete(listener) || listeners.size > 0) return;
        for (const stop of stops.splice(0)) stop();
        source.stop?.();
        forget();
        view = source.view();
      };
    },
    get: () => view,
  };
}

function newestFirst(one: Lead | Activity, other: Lead | Activity): number {
  const [mine, its] = [one.createdAt ?? '', other.createdAt ?? ''];
  if (mine === its) return one.id < other.id ? 1 : -1;
  return mine < its ? 1 : -1;
}

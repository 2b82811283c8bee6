// Not run: compiling it is the test. Each `@ts-expect-error` marks an error that the types must detect.
import { io } from 'socket.io-client';
import {
  createLeadwire, Leadwire, LeadwireError, unwrap,
  type Activity, type Actor, type Events, type Lead, type LeadStatus, type LeadwireSocket, type Logged, type LogEvents,
  type Page, type Person, type Position, type Role, type SocketEvents, type User, type WithheldLead,
} from '../src/index.ts';

/** Fails to compile unless both types are the same. */
type Same<One, Other> = (<T>() => T extends One ? 1 : 2) extends <T>() => T extends Other ? 1 : 2 ? true : false;
const same = <Answer extends true>(_?: Answer) => {};

// The helper on a stock socket.

const helper = new Leadwire(io('http://127.0.0.1:3001', { autoConnect: false }), { refresh: async () => 'token' });

helper.on('lead:updated', ({ lead, changes, seq }) => {
  const title: string | undefined = lead.title;
  const first: string | undefined = changes[0];
  return [title, first, seq + 1];
});
helper.on('reset', ({ seq }) => seq + 1);
helper.on('activity:created', ({ activity }) => activity.type === 'NOTE');
helper.on('lead:viewers', ({ users = [], total }) => [users.map(({ name }): string | undefined => name), total]);
const position: Position | undefined = helper.position;
const stop: () => void = helper.on('connected', ({ userRole }) => userRole === 'ADMIN');
void [position, stop];

// @ts-expect-error unknown event
helper.on('lead:exploded', () => {});
// @ts-expect-error lead:deleted has no lead
helper.on('lead:deleted', ({ lead }) => lead);
// @ts-expect-error a sequence number is no text
helper.on('activity:created', ({ seq }) => seq === 'last');
// @ts-expect-error refresh is missing
new Leadwire(io(), {});

// The names of the types before they were generated.

helper.on('lead:updated', (event) => {
  const lead: Lead = event.lead;
  const actor: Actor | undefined = event.updatedBy;
  const logged: Logged = event;
  const person: Person | null | undefined = lead.owner;
  const status: LeadStatus | undefined = lead.status;
  const changes: LogEvents['lead:updated']['changes'] = event.changes;
  const added: unknown = lead['addedByAPlugin'];
  return [actor, logged, person, status, changes, added];
});
helper.on('activity:updated', (event) => {
  const activity: Activity = event.activity;
  return activity;
});
const page = (leads: Page<Lead>): WithheldLead | undefined => ({ id: leads.items[0]!.id, version: 1, withheld: true });
const role: Role = 'ADMIN';
const events: (keyof Events)[] = ['gap', 'synced', 'refused', 'lead:created', 'lead:viewers'];
const expires = (event: SocketEvents['connected']): string => event.tokenExpiresAt;
void [page, role, events, expires];
same<Same<LogEvents['lead:revoked']['epoch'], string>>();

// Members keep their own types although a plugin may add more.
same<Same<Lead['title'], string | undefined>>();
same<Same<Lead['valueCents'], number | null | undefined>>();
// @ts-expect-error a lead has no member of this type; that of `title` would be one
same<Same<Lead['titel'], string | undefined>>();

// The stock socket with the types of the documents.

const socket: LeadwireSocket = io('http://127.0.0.1:3001');
socket.on('lead:assigned', ({ previousOwnerId }) => previousOwnerId);
socket.emit('lead:update', { leadId: 'id', patch: { status: 'WON' }, version: 3 }, (answer) => {
  if (answer.ok) return answer.lead.title;
  return [answer.error.code, answer.error.retryAfterMs];
});
socket.emit('lead:subscribe', { leadId: 'id' });
// @ts-expect-error unknown event
socket.emit('lead:explode', {});
// @ts-expect-error a misspelt member
socket.emit('lead:subscribe', { leadID: 'id' });
// @ts-expect-error the answer has no lead before it is known to be ok
socket.emit('lead:create', { title: 'Roof' }, (answer) => answer.lead);

// The client.

const leadwire = createLeadwire({ url: 'http://127.0.0.1:3001' });

leadwire.on('user', (user) => user?.role === 'ADMIN');
leadwire.on('signedOut', ({ reason }) => reason === 'elsewhere');
leadwire.on('lead:created', ({ lead, restored }) => [lead.title, restored]);

async function use() {
  const { email } = await leadwire.login('viewer@example.com', 'a password');
  const { data, error } = await leadwire.api.GET('/api/leads', { params: { query: { status: ['NEW'], limit: 20 } } });
  if (error) return [error.code, error.requestId];
  const { items } = await unwrap(leadwire.api.GET('/api/leads'));
  same<Same<(typeof items)[0], Lead>>();
  same<Same<typeof data.items, Lead[]>>();
  const me = await unwrap(leadwire.api.GET('/api/auth/me'));
  same<Same<typeof me, User>>();
  const nothing = await unwrap(leadwire.api.DELETE('/api/activities/{id}', { params: { path: { id: 'id' } } }));
  same<Same<typeof nothing, undefined>>();
  const created: Lead | undefined = await unwrap(leadwire.api.POST('/api/leads', { body: { title: 'Roof' } }));
  await leadwire.api.PATCH('/api/leads/{id}', {
    params: { path: { id: 'id' }, header: { 'If-Match': '"3"' } },
    body: { status: 'WON' },
  });

  const { lead, seq } = await leadwire.createLead({ title: 'Roof', valueCents: 1250000 });
  same<Same<typeof lead, Lead>>();
  await leadwire.updateLead(lead.id, { status: 'WON', company: null }, { version: lead.version ?? 1, timeoutMs: 500 });
  await leadwire.assignLead(lead.id, null);
  const { activity } = await leadwire.createActivity(lead.id, { type: 'NOTE', body: 'Call back' });
  const { leadId } = await leadwire.deleteLead(lead.id, { idempotencyKey: 'a key' });
  return [email, created, seq + 1, activity.type, leadId];
}

async function misuse() {
  // @ts-expect-error unknown path
  await leadwire.api.GET('/api/leds');
  // @ts-expect-error unknown query parameter
  await leadwire.api.GET('/api/leads', { params: { query: { state: 'NEW' } } });
  // @ts-expect-error the path needs an id
  await leadwire.api.GET('/api/leads/{id}');
  // @ts-expect-error a title is required
  await leadwire.createLead({ company: 'Berg AS' });
  // @ts-expect-error not a member of a lead
  await leadwire.createLead({ title: 'Roof', titel: 'Roof' });
  // @ts-expect-error unknown status
  await leadwire.updateLead('id', { status: 'SOLD' });
  // @ts-expect-error the title cannot be removed
  await leadwire.updateLead('id', { title: null });
  // @ts-expect-error unknown activity type
  await leadwire.createActivity('id', { type: 'FAX' });
  // @ts-expect-error the server writes this type
  await leadwire.createActivity('id', { type: 'STATUS_CHANGE' });
  // @ts-expect-error the acknowledgement of a deletion has no lead
  (await leadwire.deleteLead('id')).lead;
  // @ts-expect-error a creation builds on no version
  await leadwire.createLead({ title: 'Roof' }, { version: 1 });
}

function explain(error: unknown) {
  if (!(error instanceof LeadwireError)) return undefined;
  const wait: number | undefined = error.retryAfterMs;
  const first: string | undefined = error.errors[0]?.field;
  const now: string | undefined = error.current?.title;
  return [error.status, error.code, error.requestId, wait, first, now];
}
// @ts-expect-error a LeadwireError needs a code
new LeadwireError('message', {});

const leads = leadwire.watchLeads();
const unsubscribe: () => void = leads.subscribe((view) => view.leads.map(({ title }): string | undefined => title));
const viewers = leadwire.watchLead('id').get().viewers.map(({ name }) => name);
// @ts-expect-error a view cannot be changed
leads.get().leads.push();

void [use, misuse, explain, unsubscribe, viewers];

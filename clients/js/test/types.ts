// Not run: compiling it is the test. Each `@ts-expect-error` marks an error that the types must detect.
import { io } from 'socket.io-client';
import { Leadwire, type Position } from '../src/index.ts';

const leadwire = new Leadwire(io('http://127.0.0.1:3001', { autoConnect: false }), { refresh: async () => 'token' });

leadwire.on('lead:updated', ({ lead, changes, seq }) => {
  const title: string | undefined = lead.title;
  const first: string | undefined = changes[0];
  return [title, first, seq + 1];
});
leadwire.on('reset', ({ seq }) => seq + 1);
leadwire.on('activity:created', ({ activity }) => activity.type === 'NOTE');
leadwire.on('lead:viewers', ({ users, total }) => users.map(({ name }): string | undefined => name).length < total);
const position: Position | undefined = leadwire.position;
const stop: () => void = leadwire.on('connected', ({ userRole }) => userRole === 'ADMIN');
void [position, stop];

// @ts-expect-error unknown event
leadwire.on('lead:exploded', () => {});
// @ts-expect-error lead:deleted has no lead
leadwire.on('lead:deleted', ({ lead }) => lead);
// @ts-expect-error unknown activity type
leadwire.on('activity:created', ({ activity }) => activity.type === 'FAX');
// @ts-expect-error refresh is missing
new Leadwire(io(), {});

// Reference server of the bench: the same contract in Socket.IO, with JWT, rooms and one JavaScript hook per role.
//
//   node server.mjs EVENTS.json LEADS
//
// EVENTS.json holds events as Leadwire sent them, by name, so that both send the same bytes. Prints one line of JSON:
// the port, the tokens by role and the ids of the leads. Nothing is stored.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import jwt from 'jsonwebtoken';
import { Server } from 'socket.io';

const SECRET = 'bench-secret';
const ROLES = ['ADMIN', 'MANAGER', 'SALES', 'VIEWER'];

const templates = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const template = templates['lead:updated'];
const leads = new Map();
for (let n = 0; n < Number(process.argv[3]); n++) {
  const id = n === 0 ? template.lead.id : randomUUID();
  leads.set(id, { ...template.lead, id });
}
// As many digits as in the template, so that events have the same length.
let seq = template.seq;
const epoch = template.epoch;

// Per role: what it gets of an event. Called once per event and role. A mask has the length of what it hides.
const masked = (text) => text?.replace(/[0-9]/g, '*') ?? null;
const hooks = {
  ADMIN: (name, event) => event,
  MANAGER: (name, event) => event,
  SALES: (name, event) =>
    event.lead?.valueCents > 5_000_000 ? { ...event, lead: { ...event.lead, email: '***' } } : event,
  VIEWER: (name, event) =>
    event.lead ? { ...event, lead: { ...event.lead, phone: masked(event.lead.phone) } } : event,
};

const http = createServer(handle);
const io = new Server(http, { serveClient: false });

io.use((socket, next) => {
  const token = socket.handshake.auth?.token;
  if (!token) return next(new Error('Authentication token required'));
  try {
    const { sub, role } = jwt.verify(token, SECRET, { algorithms: ['HS256'] });
    Object.assign(socket.data, { userId: sub, userRole: role });
    next();
  } catch {
    next(new Error('Invalid authentication token'));
  }
});

io.on('connection', (socket) => {
  const { userId, userRole } = socket.data;
  socket.join(['org:global', `user:${userId}`, `role:${userRole}`, `org:global|${userRole}`]);
  socket.emit('connected', {
    message: 'Connected to the CRM server', userId, userRole, timestamp: new Date().toISOString(), seq, epoch,
    recovered: false,
  });
  // A slice of a room holds its sockets of one role: a hook is asked once per role and not once per socket.
  const subscription = (join) => (body, ack) => {
    const leadId = body?.leadId;
    if (typeof leadId !== 'string' || !leadId) {
      socket.emit('error', { message: 'Lead ID is required', code: 'lead_id_required' });
      return ack?.({ ok: false });
    }
    for (const room of [`lead:${leadId}`, `lead:${leadId}|${userRole}`]) join ? socket.join(room) : socket.leave(room);
    socket.emit(join ? 'lead:subscribed' : 'lead:unsubscribed', { leadId });
    ack?.({ ok: true, leadId, seq });
  };
  socket.on('lead:subscribe', subscription(true));
  socket.on('lead:unsubscribe', subscription(false));
});

function emit(name, rooms, event) {
  for (const role of ROLES) {
    io.to(rooms.map((room) => `${room}|${role}`)).emit(name, hooks[role](name, event));
  }
}

async function handle(request, response) {
  const answer = (status, body) => {
    const text = JSON.stringify(body);
    response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
    response.end(text);
  };
  let actor;
  try {
    actor = jwt.verify(request.headers.authorization?.slice('Bearer '.length) ?? '', SECRET, { algorithms: ['HS256'] });
  } catch {
    return answer(401, { code: 'unauthenticated' });
  }
  const [, id, activities] = /^\/api\/leads\/([^/]+)(\/activities)?$/.exec(request.url) ?? [];
  const lead = leads.get(id);
  if (!lead) return answer(404, { code: 'lead_not_found' });
  if (actor.role === 'VIEWER') return answer(403, { code: 'forbidden' });
  let text = '';
  for await (const part of request) text += part;
  const body = JSON.parse(text);
  const timestamp = new Date().toISOString();
  if (request.method === 'PATCH' && !activities) {
    Object.assign(lead, body, { version: lead.version, rev: lead.rev, updatedAt: timestamp });
    const event = { ...template, lead, changes: Object.keys(body), timestamp, seq: ++seq };
    emit('lead:updated', ['org:global', `lead:${id}`], event);
    return answer(200, lead);
  }
  if (request.method === 'POST' && activities) {
    const shape = templates['activity:created'];
    const activity = { ...shape.activity, ...body, id: randomUUID(), leadId: id, createdAt: timestamp };
    emit('activity:created', [`lead:${id}`], { ...shape, activity, leadId: id, timestamp, seq: ++seq });
    return answer(201, activity);
  }
  answer(405, { code: 'method_not_allowed' });
}

http.listen(0, '127.0.0.1', 1024, () => {
  const sign = (role) => jwt.sign({ sub: randomUUID(), role }, SECRET, { expiresIn: '1h' });
  const tokens = Object.fromEntries(ROLES.map((role) => [role, sign(role)]));
  console.log(JSON.stringify({ port: http.address().port, tokens, leads: [...leads.keys()] }));
});

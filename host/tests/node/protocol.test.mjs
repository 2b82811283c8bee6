// Engine.IO v4 and Socket.IO v5 as specified, frame by frame, for what this server offers: the namespace `/` by long
// polling, by WebSocket, and with an upgrade. PROTOCOL.md lists the differences from the reference server and their
// reasons ("What differs from the reference server").

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Line, Polling, RECORD, address } from './raw.mjs';
import { Server, until } from './support.mjs';

const ends = [];
const owner = { after: (end) => ends.push(end) };
let server;
let brisk;
let token;
let briskToken;

before(async () => {
  const settings = '[socket]\nping_interval = "700ms"\nping_timeout = "2s"\nconnect_timeout = "2s"\n';
  [server, brisk] = await Promise.all([Server.start(owner), Server.start(owner, { settings })]);
  [token, briskToken] = await Promise.all([server, brisk].map(async (one) => (await one.person('ADMIN')).token));
});
after(async () => {
  for (const end of ends) await end();
});

const together = { concurrency: true };
const isError = (packet) => packet.startsWith('42["error"');
const subscribe = (leadId, id = '') => `42${id}["lead:subscribe",{"leadId":"${leadId}"}]`;
const acked = (leadId, id) => (packet) => packet.startsWith(`43${id}[`) && packet.includes(`"leadId":"${leadId}"`);

/** Checks that the session is alive: a request is answered. */
async function works(session) {
  const lead = `still here ${Math.random()}`;
  if (session instanceof Polling) await session.post(subscribe(lead, 9));
  else session.send(subscribe(lead, 9));
  await session.next(acked(lead, 9));
}

async function upgraded() {
  const polling = await Polling.connect(server, token);
  const line = await Line.besides(polling);
  line.send('2probe');
  assert.equal(await line.next(), '3probe');
  line.send('5');
  await works(line);
  return { polling, line };
}

describe('Engine.IO: opening a session', together, () => {
  test('a polling session opens with its sid, its upgrades and the heartbeat settings', async () => {
    const response = await fetch(address(server, { EIO: 4, transport: 'polling' }));
    assert.equal(response.status, 200);
    assert.match(response.headers.get('content-type'), /^text\/plain; charset=utf-8$/i);
    const text = await response.text();
    assert.equal(text[0], '0');
    const { sid, ...open } = JSON.parse(text.slice(1));
    assert.ok(typeof sid === 'string' && sid.length > 10);
    assert.deepEqual(open, { upgrades: ['websocket'], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 262_144 });
  });

  test('a WebSocket session opens with its first frame and offers no upgrades', async () => {
    const { open: { sid, ...open } } = await Line.open(server);
    assert.ok(typeof sid === 'string' && sid.length > 10);
    assert.deepEqual(open, { upgrades: [], pingInterval: 25_000, pingTimeout: 20_000, maxPayload: 262_144 });
  });

  for (const [what, query] of [
    ['no version', { transport: 'polling' }],
    ['version 3', { EIO: 3, transport: 'polling' }],
    ['an invalid version', { EIO: 'abc', transport: 'polling' }],
    ['no transport', { EIO: 4 }],
    ['an unknown transport', { EIO: 4, transport: 'pigeon' }],
    ['an unknown sid', { EIO: 4, transport: 'polling', sid: 'AAAAAAAAAAAAAAAA' }],
    ['an invalid sid', { EIO: 4, transport: 'polling', sid: '?' }],
  ]) {
    test(`${what} is answered 400, with the reason`, async () => {
      const response = await fetch(address(server, query));
      assert.equal(response.status, 400);
      const { code, message } = await response.json();
      assert.ok(code !== undefined && message.length > 5, `${code} ${message}`);
      assert.equal((await fetch(address(server, query), { method: 'POST', body: '40' })).status, 400);
    });
  }

  for (const [what, query] of [
    ['no version', { transport: 'websocket' }],
    ['an invalid version', { EIO: 'abc', transport: 'websocket' }],
    ['an unknown transport', { EIO: 4, transport: 'pigeon' }],
  ]) {
    test(`a WebSocket with ${what} is answered 400`, async () => {
      const line = new Line(server, query);
      await line.closed();
      assert.equal(line.status, 400);
    });
  }

  test('a WebSocket for an unknown session is closed without a frame', async () => {
    const line = new Line(server, { EIO: 4, transport: 'websocket', sid: 'AAAAAAAAAAAAAAAA' });
    await line.closed();
    assert.deepEqual(line.frames, []);
  });

  test('only GET opens a session, and an open session accepts only GET and POST', async () => {
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH']) {
      const response = await fetch(address(server, { EIO: 4, transport: 'polling' }), { method });
      assert.equal(response.status, 400, method);
    }
    const session = await Polling.connect(server, token);
    for (const method of ['PUT', 'DELETE', 'PATCH']) {
      assert.equal((await fetch(session.address, { method })).status, 400, method);
    }
    await works(session);
  });
});

describe('Engine.IO: the heartbeat', together, () => {
  test('a polling session is pinged at the interval and stays open while it answers', async () => {
    const session = await Polling.open(brisk);
    await session.post(`40${JSON.stringify({ token: briskToken })}`);
    const times = [];
    while (times.length < 4) {
      const { status, packets } = await session.poll();
      assert.equal(status, 200);
      if (!packets.includes('2')) continue;
      times.push(Date.now());
      await session.post('3');
    }
    // The first ping is early; each later one is due 700 ms after the previous one, and load can only delay it.
    assert.ok(times[3] - times[1] > 1000, `${times.map((time) => time - times[0])}`);
  });

  test('a WebSocket session is pinged at the interval and stays open while it answers', async () => {
    const line = await Line.connect(brisk, briskToken);
    const times = [];
    while (times.length < 4) {
      await line.next((frame) => frame === '2');
      times.push(Date.now());
      line.send('3');
    }
    assert.ok(times[3] - times[1] > 1000, `${times.map((time) => time - times[0])}`);
    line.close();
  });

  test('a polling session that does not answer a ping is closed', async () => {
    const session = await Polling.open(brisk);
    await session.post(`40${JSON.stringify({ token: briskToken })}`);
    await session.ended();
  });

  test('a WebSocket session that does not answer a ping is closed', async () => {
    const line = await Line.connect(brisk, briskToken);
    await line.closed();
    assert.ok(line.frames.includes('2'));
  });

  test('an unsolicited pong is ignored', async () => {
    const line = await Line.connect(server, token);
    line.send('3', '3', '3');
    await works(line);
    line.close();
  });
});

describe('Engine.IO: closing', together, () => {
  test('a polling session that sends a close packet ends, and its pending poll is answered', async () => {
    const session = await Polling.connect(server, token);
    const waiting = session.poll();
    const said = await session.post('1');
    assert.equal(said.status, 200);
    // 400 if it arrived after the close packet.
    const { status, packets } = await waiting;
    assert.ok([200, 400].includes(status), `${status}`);
    assert.deepEqual(packets.filter((packet) => packet !== '2' && packet !== '6'), []);
    await session.ended();
  });

  test('a WebSocket session that sends a close packet is closed', async () => {
    const line = await Line.connect(server, token);
    line.send('1');
    await line.closed();
  });
});

describe('Engine.IO: upgrade from polling to WebSocket', together, () => {
  test('a probe is answered, the pending poll is released, and the session continues by WebSocket', async () => {
    const polling = await Polling.connect(server, token);
    await polling.post(subscribe('before', 1));
    await polling.next(acked('before', 1));
    const waiting = polling.poll();
    const line = await Line.besides(polling);
    line.send('2probe');
    assert.equal(await line.next(), '3probe');
    const { status, packets } = await waiting;
    assert.equal(status, 200);
    assert.ok(packets.every((packet) => packet === '6' || packet === '2' || packet.startsWith('4')), `${packets}`);
    line.send('5');
    line.send(subscribe('after', 2));
    await line.next(acked('after', 2));
    line.close();
  });

  for (const [what, code, isLeft] of [['that is closed', 1001, true], ['that is lost', 3000, false]]) {
    test(`an upgraded session ${what} ${isLeft ? 'drops its subscriptions' : 'leaves its subscriptions to the next socket of its login'}`, async () => {
      const person = await server.person('VIEWER');
      const leave = async (upgrade) => {
        const polling = await Polling.connect(server, person.token);
        await polling.post(subscribe('left behind', 1));
        await polling.next(acked('left behind', 1));
        const line = await Line.besides(polling);
        line.send('2probe');
        await line.next((frame) => frame === '3probe');
        if (upgrade) {
          line.send('5');
          await works(line);
        }
        line.ws.close(code);
        await polling.ended();
        const next = await Line.connect(server, person.token);
        await works(next);
        const again = next.frames.filter((frame) => frame.includes('left behind'));
        assert.equal(again.length, isLeft ? 0 : 1, `${again}`);
        next.send('41', '1');
        await next.closed();
      };
      await leave(true);
      // And one before the end of its upgrade.
      await leave(false);
    });
  }

  test('polling requests of an upgraded session are answered 400, and the session continues', async () => {
    const { polling, line } = await upgraded();
    assert.equal((await polling.poll()).status, 400);
    assert.equal((await polling.post(subscribe('late', 3))).status, 400);
    await works(line);
    line.close();
  });

  test('a second WebSocket for an upgraded session is closed, and the first continues', async () => {
    const { polling, line } = await upgraded();
    const second = await Line.besides(polling);
    await second.closed();
    assert.deepEqual(second.frames, []);
    await works(line);
    line.close();
  });

  test('a second WebSocket for a session opened by WebSocket is closed, and the first continues', async () => {
    const line = await Line.connect(server, token);
    const second = new Line(server, { EIO: 4, transport: 'websocket', sid: line.open.sid });
    await second.closed();
    await works(line);
    line.close();
  });

  test('in a network that blocks WebSockets the session stays on polling', async () => {
    const polling = await Polling.connect(server, token);
    const asked = await fetch(address(server, { EIO: 4, transport: 'websocket', sid: polling.open.sid }));
    assert.equal(asked.status, 400);
    await works(polling);
  });

  for (const [what, begin] of [
    ['is lost after the probe', async (line) => {
      line.send('2probe');
      assert.equal(await line.next(), '3probe');
      line.close();
    }],
    ['is lost before the probe', async (line) => line.close()],
    ['sends something other than the probe', async (line) => line.send('4hello')],
    ['asks for the upgrade without a probe', async (line) => line.send('5')],
  ]) {
    test(`a WebSocket that ${what} ends the session instead of leaving it half upgraded`, async () => {
      const polling = await Polling.connect(server, token);
      const line = await Line.besides(polling);
      await begin(line);
      await line.closed();
      await polling.ended();
    });
  }
});

describe('Engine.IO: messages', together, () => {
  test('the packets of one payload are handled in order, and their answers share a payload', async () => {
    const session = await Polling.connect(server, token);
    const numbers = Array.from({ length: 20 }, (_, at) => at);
    assert.deepEqual(await session.post(...numbers.map((number) => subscribe(`p${number}`, number))), { status: 200, text: 'ok' });
    for (const number of numbers) await session.next(acked(`p${number}`, number));
    const { packets } = await upTo(session, 2);
    assert.ok(packets.length >= 2 && packets.every((packet) => packet.length > 0), 'several in one payload');
  });

  test('base64 attachments of a payload are assigned to the event that announced them', async () => {
    const session = await Polling.connect(server, token);
    const event = '451-7["lead:subscribe",{"leadId":{"_placeholder":true,"num":0}}]';
    assert.equal((await session.post(event, 'bAQID', subscribe('next', 8))).status, 200);
    assert.match(await session.next(isError), /binary attachments are not accepted/);
    assert.match(await session.next((packet) => packet.startsWith('437[')), /"code":"malformed"/);
    await session.next(acked('next', 8));
  });

  test('a binary frame is assigned to the event that announced it', async () => {
    const line = await Line.connect(server, token);
    line.send('451-7["lead:subscribe",{"leadId":{"_placeholder":true,"num":0}}]', Buffer.from([1, 2, 3]));
    assert.match(await line.next((frame) => frame.startsWith('437[')), /"code":"malformed"/);
    line.send('452-["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]', Buffer.from([1]), Buffer.from([2]));
    await line.next(isError);
    await works(line);
    line.close();
  });

  test('a binary frame that no event announced ends the session', async () => {
    const line = await Line.connect(server, token);
    line.send(Buffer.from([1, 2, 3]));
    await line.closed();
  });

  for (const body of ['abc', '9', `4${RECORD}`, `${RECORD}${RECORD}`, 'b!!!']) {
    test(`an invalid payload ends the session: ${JSON.stringify(body)}`, async () => {
      const session = await Polling.connect(server, token);
      await session.post(body);
      await session.ended();
    });
  }

  test('an empty payload has no packets', async () => {
    const session = await Polling.connect(server, token);
    assert.deepEqual(await session.post(''), { status: 200, text: 'ok' });
    await works(session);
  });

  for (const frame of ['abc', '', '9', '0{}']) {
    test(`an invalid frame ends the session: ${JSON.stringify(frame)}`, async () => {
      const line = await Line.connect(server, token);
      line.send(frame);
      await line.closed();
    });
  }

  test('a second concurrent poll is answered 400 and ends the session', async () => {
    const session = await Polling.connect(server, token);
    // Pending packets are sent first, so that the first of the two polls waits.
    await upToIdle(session);
    const first = session.poll();
    const second = await until('a refusal', async () => {
      const answer = await session.poll();
      return answer.status === 400 && answer;
    });
    assert.deepEqual(second.packets, []);
    assert.ok([200, 400].includes((await first).status));
    await session.ended();
  });

  test('a poll aborted by the client loses nothing, or ends the session', async () => {
    const session = await Polling.connect(server, token);
    await upToIdle(session);
    const given = new AbortController();
    const waiting = session.poll({ signal: given.signal }).catch(({ name }) => name);
    given.abort();
    assert.equal(await waiting, 'AbortError');
    await session.post(subscribe('later', 5));
    await until('an answer or the end', async () => {
      const { status, packets } = await session.poll();
      // A server that has not noticed yet treats this as a second concurrent poll.
      return status === 400 || packets.some(acked('later', 5));
    });
  });

  test('a payload over maxPayload is answered 413', async () => {
    const session = await Polling.connect(server, token);
    const { status } = await session.post(`42["x","${'x'.repeat(300_000)}"]`);
    assert.equal(status, 413);
  });
});

/** Sends requests and polls until a payload has `count` packets or more. */
async function upTo(session, count) {
  return until('a payload of several packets', async () => {
    await session.post(...Array.from({ length: 10 }, (_, at) => subscribe(`q${at}`, at)));
    const { packets } = await session.poll();
    return packets.length >= count && { packets };
  });
}

/** Takes all pending packets of a session. */
async function upToIdle(session) {
  const mark = `mark ${Math.random()}`;
  await session.post(subscribe(mark, 99));
  await session.next(acked(mark, 99));
}

describe('Socket.IO: connecting', together, () => {
  test('CONNECT with a payload is answered with a sid, then with connected', async () => {
    const line = await Line.connect(server, token);
    const { sid } = JSON.parse(line.greeting.slice(2));
    assert.ok(typeof sid === 'string' && sid.length > 10);
    assert.equal(line.connected.userRole, 'ADMIN');
    const polling = await Polling.open(server);
    await polling.post(`40${JSON.stringify({ token })}`);
    assert.match(await polling.next((packet) => packet.startsWith('40')), /^40\{"sid":"[^"]+"\}$/);
    await polling.next((packet) => packet.startsWith('42["connected",'));
    line.close();
  });

  test('CONNECT without a payload is refused with the text of the guide', async () => {
    for (const connect of ['40', '40{}', '40/,{}']) {
      const line = await Line.open(server);
      line.send(connect);
      assert.equal(await line.next(), '44{"message":"Authentication token required"}', connect);
      line.close();
    }
  });

  test('a refused client may retry on the same transport', async () => {
    const line = await Line.open(server);
    line.send('40{"token":"wrong"}');
    assert.equal(await line.next(), '44{"message":"Invalid authentication token"}');
    line.send(`40${JSON.stringify({ token })}`);
    await line.next((frame) => frame.startsWith('42["connected"'));
    await works(line);
    line.close();
  });

  for (const [payload, reason] of [
    ['"text"', 'Authentication token required'],
    ['[]', 'Authentication token required'],
    ['7', 'Authentication token required'],
    ['null', 'Authentication token required'],
    ['{"token":', 'Invalid authentication token'],
  ]) {
    test(`CONNECT with a payload that is not an object is refused: ${payload}`, async () => {
      const line = await Line.open(server);
      line.send(`40${payload}`);
      assert.equal(await line.next(), `44{"message":"${reason}"}`);
      line.close();
    });
  }

  test('an unknown namespace is refused by name, and the others continue', async () => {
    const line = await Line.connect(server, token);
    line.send(`40/admin,${JSON.stringify({ token })}`);
    assert.equal(await line.next((frame) => frame.startsWith('44')), '44/admin,{"message":"Invalid namespace"}');
    await works(line);
    line.close();
  });

  test('a second CONNECT makes no second socket', async () => {
    const line = await Line.connect(server, token);
    const again = `40${JSON.stringify({ token })}`;
    line.send(again, again);
    const person = await server.person('ADMIN');
    const lead = await person.api('POST', '/api/leads', { title: 'Told once' });
    const told = () => line.frames.filter((frame) => frame.includes(lead.id));
    await until('word of the lead', () => told().length);
    // A duplicate would have arrived before the answer.
    await works(line);
    assert.equal(told().length, 1);
    assert.ok(!line.frames.some((frame) => frame.startsWith('40') || frame.startsWith('42["connected"')));
    line.close();
  });

  test('a client that never connects to a namespace is disconnected', async () => {
    const [line, polling] = await Promise.all([Line.open(brisk), Polling.open(brisk)]);
    await Promise.all([line.closed(), polling.ended()]);
  });

  test('an event before CONNECT ends the transport', async () => {
    const line = await Line.open(server);
    line.send(subscribe('too early', 1));
    await line.closed();
    assert.ok(!line.frames.some(acked('too early', 1)));
  });
});

describe('Socket.IO: disconnecting', together, () => {
  test('a client that leaves the namespace gets no more events and may connect again', async () => {
    const line = await Line.connect(server, token);
    line.send('41');
    line.send(`40${JSON.stringify({ token })}`);
    await line.next((frame) => frame.startsWith('42["connected"'));
    const person = await server.person('ADMIN');
    const lead = await person.api('POST', '/api/leads', { title: 'Told once' });
    await until('word of the lead', () => line.frames.some((frame) => frame.includes(lead.id)));
    await works(line);
    assert.equal(line.frames.filter((frame) => frame.includes(lead.id)).length, 1);
    line.close();
  });

  test('leaving a namespace without having joined it is ignored', async () => {
    const line = await Line.connect(server, token);
    line.send('41/admin,');
    await works(line);
    line.close();
  });
});

describe('Socket.IO: events', together, () => {
  test('an event is answered by events, and one with an id also by an ack', async () => {
    const line = await Line.connect(server, token);
    line.send(subscribe('plain'));
    assert.equal(await line.next(), '42["lead:subscribed",{"leadId":"plain"}]');
    for (const id of [0, 1, 456, 4_294_967_295]) {
      line.send(subscribe(`with ${id}`, id));
      assert.match(await line.next((frame) => frame.startsWith('43')), new RegExp(`^43${id}\\[\\{"ok":true,`));
    }
    line.send(`42/,5["lead:subscribe",{"leadId":"named"}]`);
    await line.next(acked('named', 5));
    line.close();
  });

  test('an unsolicited ack is ignored', async () => {
    const line = await Line.connect(server, token);
    line.send('431[]', '43999["x"]');
    await works(line);
    line.close();
  });

  for (const packet of ['4abc', '4', '49', '42', '42{}', '42abc["x"]', '42"x"', '42[]', '45["x"]', '44{"message":"x"}']) {
    test(`an invalid packet ends the transport: ${packet}`, async () => {
      const [line, polling] = await Promise.all([Line.connect(server, token), Polling.connect(server, token)]);
      line.send(packet);
      await polling.post(packet);
      await Promise.all([line.closed(), polling.ended()]);
    });
  }

  for (const [packet, name] of [['42[7,{}]', '7'], ['42[7]', '7'], ['42["say \\"hi\\""]', 'say "hi"']]) {
    test(`an event with an unreadable name is answered like an unknown one: ${packet}`, async () => {
      const [line, polling] = await Promise.all([Line.connect(server, token), Polling.connect(server, token)]);
      line.send(packet);
      await polling.post(packet);
      for (const session of [line, polling]) {
        const [, error] = JSON.parse((await session.next(isError)).slice(2));
        assert.deepEqual([error.code, error.event], ['unknown_event', name]);
        await works(session);
      }
      line.close();
    });
  }

  test('an event with attachments is handled once they have arrived', async () => {
    const [line, polling] = await Promise.all([Line.connect(server, token), Polling.connect(server, token)]);
    line.send('451-["x"', Buffer.from([1]));
    await polling.post('451-["x"', 'bAQ==');
    await Promise.all([line.closed(), polling.ended()]);
  });

  test('a text packet in place of an announced attachment ends the transport', async () => {
    const line = await Line.connect(server, token);
    line.send('451-["lead:subscribe",{"_placeholder":true,"num":0}]', subscribe('instead', 1));
    await line.closed();
  });
});

// A proxy in front of the server whose connections can be cut.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Proxy {
  static async listen(t, port) {
    const proxy = new Proxy();
    proxy.pairs = new Set();
    proxy.cuts = 0;
    proxy.tcp = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      const pair = [near, far];
      proxy.pairs.add(pair);
      const end = () => {
        proxy.pairs.delete(pair);
        for (const socket of pair) socket.destroy();
      };
      for (const socket of pair) socket.setNoDelay(true).on('error', end).on('close', end);
      near.pipe(far);
      far.pipe(near);
    });
    proxy.tcp.listen(0, '127.0.0.1');
    await once(proxy.tcp, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.tcp.address().port}`;
    t.after(() => {
      proxy.tcp.close();
      for (const [near] of proxy.pairs) near.destroy();
    });
    return proxy;
  }

  /** Cuts one connection: closes or resets both ends. */
  cut({ pick, next }) {
    const pairs = [...this.pairs];
    if (!pairs.length) return;
    this.cuts += 1;
    const resets = next() < 0.5;
    for (const socket of pick(pairs)) resets ? socket.resetAndDestroy() : socket.destroy();
  }
}

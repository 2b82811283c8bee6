// Every hook in JavaScript, each with a little work, and with the harm that its settings select.

import { count, log, nowMs } from "leadwire:plugin/host@1.0.0";

let harm = {};

export const lifecycle = {
  describe: () => ({
    name: "every-hook-js",
    version: "0.1.0",
    events: ["lead:*"],
    roles: [],
    fields: ["/lead/email", "/lead/title", "/input/source", "/context/user/email"],
    wholePayload: false,
  }),
  init(text) {
    harm = JSON.parse(text);
    perform("init");
  },
};

export const authorize = {
  connect(who) {
    perform("connect");
    const stranger = who.fields.some(({ json }) => json.startsWith('"stranger'));
    return stranger ? { tag: "deny", val: "no strangers" } : { tag: "allow" };
  },
  subscribe: () => ({ tag: "allow" }),
};

export const before = {
  commands: () => ["lead:create", "lead:update"],
  before(command) {
    perform("before");
    const source = read(command, "/input/source");
    if (source === "spam") {
      return { tag: "refuse", val: { code: "spam", message: "no spam", field: "source" } };
    }
    return source === "www"
      ? { tag: "amend", val: [{ tag: "set", val: { pointer: "/input/source", json: '"web"' } }] }
      : { tag: "accept" };
  },
};

export const enrich = {
  enrich(event) {
    perform("enrich");
    const title = read(event, "/lead/title");
    return title === undefined
      ? []
      : [{ tag: "set", val: { pointer: "/lead/loud", json: JSON.stringify(title.toUpperCase()) } }];
  },
};

export const filter = {
  hides: () => [{ role: "VIEWER", pointers: ["/lead/email", "/lead/phone"] }],
  filter(event, roles) {
    perform("filter");
    count("filtered", 1);
    return roles.map((role) => {
      if (role !== "VIEWER") {
        return { role, audience: { tag: "everyone" }, edits: [] };
      }
      const text = `${read(event, "/lead/email")?.length ?? 0} letters`;
      const edits = [
        { tag: "mask", val: { pointer: "/lead/email", text } },
        { tag: "remove", val: "/lead/phone" },
      ];
      return { role, audience: { tag: "everyone" }, edits };
    });
  },
};

export const after = {
  wants: () => ({ events: ["lead:*"], effects: [], webhookHosts: [] }),
  after(occasion) {
    perform("after");
    return { effects: [], state: String(Number(occasion.state ?? 0) + 1) };
  },
};

function read({ fields }, pointer) {
  const field = fields.find((field) => field.pointer === pointer);
  const value = field && JSON.parse(field.json);
  return value ?? undefined;
}

const HARMS = {
  log: () => log("info", `now is ${nowMs()}, by its own clock ${Date.now()}, ${Math.random()}`),
  refuse: () => {
    throw "it said no";
  },
  throw: () => {
    throw new TypeError("nobody expects this");
  },
  spin: () => {
    for (;;);
  },
  recurse: () => {
    const deeper = () => deeper() + 1;
    deeper();
  },
  allocate: () => {
    const held = [];
    for (;;) held.push(new Uint8Array(1 << 20).fill(1));
  },
};

function perform(hook) {
  HARMS[harm[hook]]?.();
}

// `guests/enrich`, `guests/guard` and `guests/follow` in JavaScript. Each hook declares its own fields, so that it gets the
// same input as its guest in Rust.

export const lifecycle = {
  describe: () => ({
    name: "bench-hooks-js",
    version: "0.1.0",
    events: ["lead:updated"],
    roles: [],
    fields: ["/lead/valueCents", "/lead/status", "/context/user/email", "/input/source", "/input/valueCents"],
    wholePayload: false,
  }),
  init() {},
};

export const enrich = {
  enrich(event) {
    const fields = read(event);
    const cents = fields.get("/lead/valueCents");
    if (typeof cents !== "number") {
      return [];
    }
    const worth = Math.trunc((cents * chance(fields.get("/lead/status"))) / 100);
    return [{ tag: "set", val: { pointer: "/lead/worth", json: JSON.stringify(worth) } }];
  },
};

export const authorize = {
  connect(who) {
    const email = read(who).get("/context/user/email") ?? "";
    return email.endsWith("@example.com") ? { tag: "allow" } : { tag: "deny", val: "staff only" };
  },
  subscribe: () => ({ tag: "allow" }),
};

export const before = {
  commands: () => ["*"],
  before(command) {
    const fields = read(command);
    if (fields.get("/input/valueCents") > 5_000_000) {
      return { tag: "refuse", val: { code: "too_large", message: "ask your manager", field: "valueCents" } };
    }
    return fields.get("/input/source") === "www"
      ? { tag: "amend", val: [{ tag: "set", val: { pointer: "/input/source", json: '"web"' } }] }
      : { tag: "accept" };
  },
};

const DAY = 24 * 60 * 60 * 1000;

export const after = {
  wants: () => ({ events: ["lead:updated"], effects: ["remind"], webhookHosts: [] }),
  after(occasion) {
    const fields = read(occasion.event);
    const data = fields.get("/lead/valueCents");
    if (typeof data !== "number") {
      return { effects: [] };
    }
    const at = new Date(Date.parse(occasion.at) + DAY).toISOString();
    const input = JSON.stringify({ at, key: fields.get("/lead/status") ?? "", data });
    return { effects: [{ name: "remind", input }], state: String(Number(occasion.state ?? 0) + 1) };
  },
};

function chance(status) {
  switch (status) {
    case "NEW":
      return 10;
    case "QUALIFIED":
    case "PROPOSAL":
      return 40;
    case "NEGOTIATION":
      return 70;
    default:
      return 0;
  }
}

function read({ fields }) {
  return new Map(fields.map(({ pointer, json }) => [pointer, JSON.parse(json)]));
}

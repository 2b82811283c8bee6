// `guests/filter` in JavaScript.

export const lifecycle = {
  describe: () => ({
    name: "bench-filter-js",
    version: "0.1.0",
    events: ["lead:updated"],
    roles: ["MANAGER", "SALES", "VIEWER"],
    fields: ["/lead/email", "/lead/valueCents"],
    wholePayload: false,
  }),
  init() {},
};

export const filter = {
  hides: () => [
    { role: "SALES", pointers: ["/lead/email"] },
    { role: "VIEWER", pointers: ["/lead/email", "/lead/phone"] },
  ],
  filter(event, roles) {
    const fields = new Map(event.fields.map(({ pointer, json }) => [pointer, JSON.parse(json)]));
    const large = fields.get("/lead/valueCents") > 5_000_000;
    const internal = fields.get("/lead/email")?.endsWith("@example.com") ?? false;
    return roles.map((role) => ({ role, audience: { tag: "everyone" }, edits: edits(role, large, internal) }));
  },
};

function edits(role, large, internal) {
  if (role === "SALES" && large && !internal) {
    return [{ tag: "mask", val: { pointer: "/lead/email", text: "***" } }];
  }
  if (role === "VIEWER" && !internal) {
    return [
      { tag: "remove", val: "/lead/email" },
      { tag: "remove", val: "/lead/phone" },
    ];
  }
  return [];
}

// Masks e-mail addresses except the first letter and the domain: `bob@miller.example` becomes `b***@miller.example`.
//
// It imports nothing from the host, so that Node.js can load it unchanged for its tests.

const EMAIL = "/lead/email";
const ROLES = ["ADMIN", "MANAGER", "SALES", "VIEWER"];

/** @type {string[]} Whose view is masked. */
let masked = [];

export const lifecycle = {
  describe() {
    return {
      name: "mask-email-js",
      version: "0.1.0",
      // `*` includes reads: an address hidden in an event must not appear in a list.
      events: ["*"],
      roles: [],
      fields: [EMAIL],
      wholePayload: false,
    };
  },

  // An exception here refuses the settings; its text is for the operator.
  init(text) {
    const { roles = ["VIEWER"], ...unknown } = JSON.parse(text);
    for (const key of Object.keys(unknown)) {
      throw `config.${key}: unknown setting; expected roles`;
    }
    if (!Array.isArray(roles)) {
      throw "config.roles: expected a list of roles";
    }
    for (const [at, role] of roles.entries()) {
      if (!ROLES.includes(role)) {
        throw `config.roles[${at}]: unknown role ${JSON.stringify(role)}; expected one of ${ROLES.join(", ")}`;
      }
    }
    masked = roles;
  },
};

export const filter = {
  hides() {
    return masked.map((role) => ({ role, pointers: [EMAIL] }));
  },

  filter(event, roles) {
    const edits = edit(event);
    return roles.map((role) => ({
      role,
      audience: { tag: "everyone" },
      edits: masked.includes(role) ? edits : [],
    }));
  },
};

/** The edits for a role whose view is masked. */
function edit(event) {
  const field = event.fields.find(({ pointer }) => pointer === EMAIL);
  const address = field && JSON.parse(field.json);
  if (typeof address !== "string") {
    return [];
  }
  return [{ tag: "mask", val: { pointer: EMAIL, text: mask(address) } }];
}

/** An address of which only the first letter and the domain are left; nothing of what is no address. */
export function mask(address) {
  const at = address.lastIndexOf("@");
  return at > 0 ? `${[...address][0]}***${address.slice(at)}` : "***";
}

export { createLeadwire, LeadwireClient } from './client.js';
export type {
  ChangeOptions, ClientEvents, CommandOptions, CommandResult, LeadwireOptions, SessionEvents,
} from './client.js';
export { LeadwireError, unwrap } from './error.js';
export type { ClientCode } from './error.js';
export type * from './events.js';
export { Leadwire } from './realtime.js';
export type { Events, HelperEvents, LeadwireSocket, Options, Position } from './realtime.js';
export type { SignedOut, TokenStorage } from './session.js';
export type { LeadView, LeadsView, Watched } from './watch.js';

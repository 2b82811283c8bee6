/**
 * Names for the generated types.
 *
 * A plugin may hide fields from a role or add its own: all except ids can be missing.
 */
import type { components } from './generated/api.js';
import type { LoggedEvent, Messages, ServerToClientEvents } from './generated/events.js';

export type { components, operations, paths } from './generated/api.js';
export type { ClientToServerEvents, LoggedEvent, Messages, ServerToClientEvents } from './generated/events.js';

/** Schemas of the OpenAPI document, by name. */
export type Schemas = components['schemas'];

export type Role = Schemas['Role'];
export type LeadStatus = Schemas['LeadStatus'];
export type ActivityType = Schemas['ActivityType'];
export type User = Schemas['User'];
export type Person = Schemas['Person'];
/** User who caused an event, or a plugin (role `PLUGIN`). */
export type Actor = Schemas['Actor'];
export type Lead = Schemas['Lead'];
export type LeadCreate = Schemas['LeadCreate'];
export type LeadPatch = Schemas['LeadPatch'];
export type Activity = Schemas['Activity'];
export type ActivityCreate = Schemas['ActivityCreate'];
export type FieldError = Schemas['FieldError'];
export type Problem = Schemas['Problem'];
/** Viewers of a followed lead, the complete list each time: the first hundred by name, and the total. */
export type Viewers = Messages['lead.viewers'];

/** A page of a list over HTTP. */
export type Page<Item> = Omit<Schemas['LeadPage'], 'items'> & { items: Item[] };

/** Answer to a change of a lead on which a plugin returns no verdict. */
export type WithheldLead = Pick<Lead, 'id' | 'version'> & { withheld: true };

type Payload<Name extends keyof ServerToClientEvents> = Parameters<ServerToClientEvents[Name]>[0];

/** Fields that every event of the log has. */
export type Logged = Pick<Payload<'lead:created'>, 'seq' | 'epoch' | 'timestamp'>;

/** Events of the log, by name. */
export type LogEvents = { [Name in LoggedEvent]: Payload<Name> };

/** Events that the server sends to one socket or to the subscribers of a lead, without a `seq`. */
export type SocketEvents = { [Name in Exclude<keyof ServerToClientEvents, LoggedEvent>]: Payload<Name> };

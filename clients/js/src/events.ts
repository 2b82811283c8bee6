/** Payloads that the server sends. A plugin may hide fields from a role or add its own: all except ids can be missing. */

export type Role = 'ADMIN' | 'MANAGER' | 'SALES' | 'VIEWER';

export type LeadStatus =
  | 'NEW' | 'CONTACTED' | 'QUALIFIED' | 'PROPOSAL' | 'NEGOTIATION' | 'WON' | 'LOST' | 'UNQUALIFIED';

export interface Person {
  id: string;
  name?: string;
  email?: string;
}

/** User who caused an event, or a plugin (role `PLUGIN`). */
export interface Actor {
  id: string;
  email: string;
  role: Role | 'PLUGIN';
}

export interface Lead {
  id: string;
  title?: string;
  status?: LeadStatus;
  owner?: Person | null;
  contactName?: string | null;
  company?: string | null;
  email?: string | null;
  phone?: string | null;
  source?: string | null;
  valueCents?: number | null;
  currency?: string;
  description?: string | null;
  custom?: Record<string, unknown>;
  createdBy?: Person;
  lastActivityAt?: string | null;
  version?: number;
  /** Grows with every write: of two versions of a lead, the one with the larger `rev` is newer. */
  rev: number;
  createdAt?: string;
  updatedAt?: string;
  [added: string]: unknown;
}

export interface Activity {
  id: string;
  leadId: string;
  type?: 'NOTE' | 'CALL' | 'EMAIL' | 'MEETING' | 'TASK' | 'STATUS_CHANGE' | 'ASSIGNMENT';
  body?: string | null;
  creator?: Person;
  dueAt?: string | null;
  completedAt?: string | null;
  meta?: Record<string, unknown>;
  createdAt?: string;
  updatedAt?: string;
  [added: string]: unknown;
}

/** A page of a list over HTTP. */
export interface Page<Item> {
  items: Item[];
  nextCursor: string | null;
  /** Items were left out because a plugin returns no verdict on them; a count for an ADMIN. */
  withheld?: true | number;
}

/** Answer to a change of a lead on which a plugin returns no verdict. */
export interface WithheldLead {
  id: string;
  version: number;
  withheld: true;
}

/** Fields that every event of the log has. */
export interface Logged {
  /** Its position in the log. */
  seq: number;
  /** Id of the log. */
  epoch: string;
  timestamp: string;
}

/** Events of the log, by name. */
export interface LogEvents {
  'lead:created': Logged & { lead: Lead; createdBy?: Actor; restored?: true };
  'lead:updated': Logged & { lead: Lead; updatedBy?: Actor; changes: string[] };
  'lead:deleted': Logged & { leadId: string; deletedBy?: Actor };
  'lead:assigned': Logged & { lead: Lead; previousOwnerId?: string | null; assignedBy?: Actor };
  'lead:revoked': Logged & { leadId: string };
  'activity:created': Logged & { activity: Activity; leadId: string; createdBy?: Actor };
  'activity:updated': Logged & { activity: Activity; leadId: string; updatedBy?: Actor };
  'activity:deleted': Logged & { activityId: string; leadId: string; deletedBy?: Actor };
  notification: Logged & { kind: string; leadId: string | null };
  'session:updated': Logged & { userRole: Role };
}

/** Events that the server sends to one socket. */
export interface SocketEvents {
  connected: {
    message: string;
    userId: string;
    userRole: Role;
    timestamp: string;
    seq: number;
    epoch: string;
    recovered: boolean;
    tokenExpiresAt: string;
  };
  'lead:subscribed': { leadId: string };
  'lead:unsubscribed': { leadId: string };
  /** Viewers of a followed lead, the complete list each time: the first hundred by name, and the total. */
  'lead:viewers': { leadId: string; users: Person[]; total: number };
  'auth:refreshed': { tokenExpiresAt: string };
  'server:draining': { retryAfterMs: number };
  error: { message: string; code: string; event?: string; limit?: string; retryAfterMs?: number };
}

/** What the server sends. A plugin may hide members from a role or add its own: any but the ids can be missing. */

export type Role = 'ADMIN' | 'MANAGER' | 'SALES' | 'VIEWER';

export type LeadStatus =
  | 'NEW' | 'CONTACTED' | 'QUALIFIED' | 'PROPOSAL' | 'NEGOTIATION' | 'WON' | 'LOST' | 'UNQUALIFIED';

export interface Person {
  id: string;
  name?: string;
  email?: string;
}

/** Who caused an event; `PLUGIN` where a plugin did. */
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
  /** Grows with every write: of two texts of a lead, the one with the larger is the newer. */
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
  /** Items were left out because a plugin gives no verdict on them; for an ADMIN, how many. */
  withheld?: true | number;
}

/** What a change is answered with in the place of a lead that no plugin gives a verdict on. */
export interface WithheldLead {
  id: string;
  version: number;
  withheld: true;
}

/** What every event of the log bears. */
export interface Logged {
  /** Its place in the log. */
  seq: number;
  /** Names the log. */
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

/** What the server tells one socket. */
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
  /** Who looks at a lead that is followed, whole each time: the first hundred by name, and how many there are. */
  'lead:viewers': { leadId: string; users: Person[]; total: number };
  'auth:refreshed': { tokenExpiresAt: string };
  'server:draining': { retryAfterMs: number };
  error: { message: string; code: string; event?: string; limit?: string; retryAfterMs?: number };
}

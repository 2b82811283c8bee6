// Generated from docs/asyncapi.json by scripts/generate.mjs: run `npm run generate` instead of editing.

import type { components } from './api.js';

/** Payloads, by the names of the messages in the document. */
export interface Messages {
    /** @description It was refused; nothing was done. */
    refused: {
        /** @enum {boolean} */
        ok: false;
        /** @description Why. */
        error: {
            /** @description Message for people. */
            message: string;
            /** @description Code, the same as over HTTP; base your logic on it. */
            code: string;
            errors?: components["schemas"]["FieldError"][];
            current?: components["schemas"]["Lead"];
            /** @description Limit that was exceeded. */
            limit?: "events" | "queue" | "subscriptions" | "replays" | "login" | (string & {});
            retryAfterMs?: number;
        };
    };
    /** @description Subscribe to a lead: get its activities, and be one of its viewers. */
    "lead.subscribe": {
        /** @description Id of a lead; any text is accepted, whether or not there is such a lead. */
        leadId: string;
        /** @description Last `seq` that the client has seen: what this socket missed of the lead since then is sent first. */
        since?: number | string;
    };
    /** @description It was done. */
    "lead.subscribe.ack": {
        /** @enum {boolean} */
        ok: true;
        leadId: string;
        /** @description Every later event of the lead is sent. */
        seq: number;
    };
    /** @description End a subscription; it may be repeated. */
    "lead.unsubscribe": {
        /** @description Id of a lead; any text is accepted, whether or not there is such a lead. */
        leadId: string;
    };
    /** @description It was done. */
    "lead.unsubscribe.ack": {
        /** @enum {boolean} */
        ok: true;
        leadId: string;
    };
    /** @description Get what was missed, in order, then `sync:done`; or `sync:reset`. */
    "sync.since": {
        /** @description Last `seq` that the client has seen. */
        seq: number | string;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    /** @description It was done. */
    "sync.since.ack": {
        /** @enum {boolean} */
        ok: true;
        /** @description False if `sync:reset` was sent: fetch again what you show. */
        recovered: boolean;
        seq: number;
        epoch?: string;
    };
    /** @description Stay connected with a new access token of the same user. */
    "auth.refresh": {
        /** @description New access token of the same user. */
        token: string;
    };
    /** @description It was done. */
    "auth.refresh.ack": {
        /** @enum {boolean} */
        ok: true;
        /** Format: date-time */
        tokenExpiresAt: string;
    };
    /** @description Create a lead. */
    "lead.create": {
        /** @description The same key with the same command within 24 hours is not carried out again. */
        idempotencyKey?: string | null;
        /** @description Short name of what is to be sold. */
        title: string;
        /**
         * @description Stage in the pipeline; any may follow any other.
         * @default NEW
         * @enum {string|null}
         */
        status?: "NEW" | "CONTACTED" | "QUALIFIED" | "PROPOSAL" | "NEGOTIATION" | "WON" | "LOST" | "UNQUALIFIED" | null;
        /** @description Person to talk to. */
        contactName?: string | null;
        /** @description Company of that person. */
        company?: string | null;
        /** @description E-mail address of the contact. */
        email?: string | null;
        /** @description Phone number of the contact, as it was written. */
        phone?: string | null;
        /** @description Where the lead came from. */
        source?: string | null;
        /** @description Expected value in hundredths of the currency. */
        valueCents?: number | null;
        /**
         * @description ISO 4217 code of the currency.
         * @default USD
         */
        currency?: string | null;
        /** @description Free text. */
        description?: string | null;
        /** @description Id of the lead in another system, such as the one that it was imported from. */
        externalId?: string | null;
        /** @description Members of your own choice. At most 32768 bytes of JSON and 8 levels; numbers must be exact. */
        custom?: {
            [key: string]: unknown;
        } | null;
    };
    /** @description It was done. */
    "lead.create.ack": {
        /** @enum {boolean} */
        ok: true;
        lead: components["schemas"]["Lead"];
        /** @description Last event that the command wrote. */
        seq: number;
    };
    /** @description Change a lead by a JSON merge patch. */
    "lead.update": {
        /**
         * Format: uuid
         * @description Id of the lead.
         */
        leadId: string;
        patch: components["schemas"]["LeadPatch"];
        /** @description Version of the lead that the change builds on. */
        version?: number | null;
        /** @description The same key with the same command within 24 hours is not carried out again. */
        idempotencyKey?: string | null;
    };
    /** @description It was done. */
    "lead.update.ack": {
        /** @enum {boolean} */
        ok: true;
        lead: components["schemas"]["Lead"];
        /** @description Last event that the command wrote. */
        seq: number;
    };
    /** @description Delete a lead. */
    "lead.delete": {
        /**
         * Format: uuid
         * @description Id of the lead.
         */
        leadId: string;
        /** @description Version of the lead that the change builds on. */
        version?: number | null;
        /** @description The same key with the same command within 24 hours is not carried out again. */
        idempotencyKey?: string | null;
    };
    /** @description It was done. */
    "lead.delete.ack": {
        /** @enum {boolean} */
        ok: true;
        /** Format: uuid */
        leadId: string;
        /** @description Last event that the command wrote. */
        seq: number;
    };
    /** @description Give a lead to another owner, or to nobody. */
    "lead.assign": {
        /**
         * Format: uuid
         * @description Id of the lead.
         */
        leadId: string;
        /** @description Version of the lead that the change builds on. */
        version?: number | null;
        /** @description The same key with the same command within 24 hours is not carried out again. */
        idempotencyKey?: string | null;
        /**
         * Format: uuid
         * @description Id of the new owner, or null for none.
         */
        ownerId: string | null;
    };
    /** @description It was done. */
    "lead.assign.ack": {
        /** @enum {boolean} */
        ok: true;
        lead: components["schemas"]["Lead"];
        /** @description Last event that the command wrote. */
        seq: number;
    };
    /** @description Add an activity to a lead. */
    "activity.create": {
        /**
         * Format: uuid
         * @description Id of the lead.
         */
        leadId: string;
        /** @description The same key with the same command within 24 hours is not carried out again. */
        idempotencyKey?: string | null;
        /**
         * @description Kind of activity.
         * @enum {string}
         */
        type: "NOTE" | "CALL" | "EMAIL" | "MEETING" | "TASK";
        /** @description What was said or is to be done. */
        body?: string | null;
        /**
         * Format: date-time
         * @description Time until which a task is to be done.
         */
        dueAt?: string | null;
        /**
         * Format: date-time
         * @description Time at which it was done.
         */
        completedAt?: string | null;
        /** @description Members of your own choice. At most 32768 bytes of JSON and 8 levels; numbers must be exact. */
        meta?: {
            [key: string]: unknown;
        } | null;
    };
    /** @description It was done. */
    "activity.create.ack": {
        /** @enum {boolean} */
        ok: true;
        activity: components["schemas"]["Activity"];
        /** @description Last event that the command wrote. */
        seq: number;
    };
    "lead.created": {
        lead: components["schemas"]["Lead"];
        createdBy?: components["schemas"]["Actor"];
        restored?: boolean;
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "lead.updated": {
        lead: components["schemas"]["Lead"];
        updatedBy?: components["schemas"]["Actor"];
        /** @description Names of the changed members. */
        changes: string[];
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "lead.assigned": {
        lead: components["schemas"]["Lead"];
        /** Format: uuid */
        previousOwnerId?: string | null;
        assignedBy?: components["schemas"]["Actor"];
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "lead.deleted": {
        /** Format: uuid */
        leadId: string;
        deletedBy?: components["schemas"]["Actor"];
        erased?: boolean;
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "lead.revoked": {
        /** Format: uuid */
        leadId: string;
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "lead.viewers": {
        /** Format: uuid */
        leadId: string;
        users?: components["schemas"]["Person"][];
        total?: number;
    };
    "lead.subscribed": {
        leadId: string;
    };
    "lead.unsubscribed": {
        leadId: string;
    };
    "activity.created": {
        activity: components["schemas"]["Activity"];
        /** Format: uuid */
        leadId: string;
        createdBy?: components["schemas"]["Actor"];
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "activity.updated": {
        activity: components["schemas"]["Activity"];
        /** Format: uuid */
        leadId: string;
        updatedBy?: components["schemas"]["Actor"];
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "activity.deleted": {
        /** Format: uuid */
        activityId: string;
        /** Format: uuid */
        leadId: string;
        deletedBy?: components["schemas"]["Actor"];
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    notification: {
        /** @description Kind, or a plugin's own word. */
        kind: "lead_assigned" | "lead_unassigned" | (string & {});
        /** Format: uuid */
        leadId: string | null;
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    "session.updated": {
        userRole: components["schemas"]["Role"];
        /** Format: date-time */
        timestamp: string;
        /** @description Position in the log. */
        seq: number;
        /** @description Log that the `seq` is of. */
        epoch: string;
    };
    connected: {
        message: string;
        /** Format: uuid */
        userId: string;
        /** @description Role of the user. */
        userRole: "ADMIN" | "MANAGER" | "SALES" | "VIEWER" | (string & {});
        /** Format: date-time */
        timestamp: string;
        /** @description Head of the log. */
        seq: number;
        epoch: string;
        /** @description True if what was missed follows. */
        recovered: boolean;
        /** Format: date-time */
        tokenExpiresAt: string;
    };
    "sync.done": {
        seq: number;
    };
    "sync.reset": {
        seq: number;
        epoch: string;
    };
    "auth.expiring": {
        /** Format: date-time */
        expiresAt: string;
    };
    "auth.refreshed": {
        /** Format: date-time */
        tokenExpiresAt: string;
    };
    "server.draining": {
        retryAfterMs: number;
    };
    /** @description Refusal of an event. */
    error: {
        /** @description Message for people. */
        message: string;
        /** @description Code, the same as over HTTP; base your logic on it. */
        code: string;
        errors?: components["schemas"]["FieldError"][];
        current?: components["schemas"]["Lead"];
        /** @description Limit that was exceeded. */
        limit?: "events" | "queue" | "subscriptions" | "replays" | "login" | (string & {});
        retryAfterMs?: number;
        /** @description Name of the event that was refused. */
        event?: string | null;
        leadId?: string;
    };
}

/** Events that the server sends, in the form that `Socket` of socket.io-client takes. */
export interface ServerToClientEvents {
  /** A lead was created, or restored. Audience: everyone who may see the lead. */
  'lead:created': (payload: Messages['lead.created']) => void;
  /** A lead was changed. Audience: everyone who may see the lead. */
  'lead:updated': (payload: Messages['lead.updated']) => void;
  /** A lead has another owner, or none. Audience: everyone who may see the lead. */
  'lead:assigned': (payload: Messages['lead.assigned']) => void;
  /** A lead was deleted, or erased for good. Audience: everyone who may see the lead. */
  'lead:deleted': (payload: Messages['lead.deleted']) => void;
  /** A change took the lead out of sight; it has the place and the `seq` of that change. Audience: users who saw the lead before and may no longer see it. */
  'lead:revoked': (payload: Messages['lead.revoked']) => void;
  /** Viewers of a lead, the whole list each time: the first hundred by name, and how many there are in all. Audience: subscribers of the lead who may see it. */
  'lead:viewers': (payload: Messages['lead.viewers']) => void;
  /** The socket is subscribed to the lead. Audience: one socket. */
  'lead:subscribed': (payload: Messages['lead.subscribed']) => void;
  /** The socket is not subscribed to the lead any more. Audience: one socket. */
  'lead:unsubscribed': (payload: Messages['lead.unsubscribed']) => void;
  /** An activity was added. Audience: subscribers of the lead who may see it. */
  'activity:created': (payload: Messages['activity.created']) => void;
  /** An activity was changed. Audience: subscribers of the lead who may see it. */
  'activity:updated': (payload: Messages['activity.updated']) => void;
  /** An activity was deleted. Audience: subscribers of the lead who may see it. */
  'activity:deleted': (payload: Messages['activity.deleted']) => void;
  /** Something happened that concerns the user. Audience: one user. */
  'notification': (payload: Messages['notification']) => void;
  /** The role, the name or the state of the user has changed. Audience: one user. */
  'session:updated': (payload: Messages['session.updated']) => void;
  /** The server has accepted the socket. What is fetched from now on misses no event. Audience: one socket. */
  'connected': (payload: Messages['connected']) => void;
  /** Everything up to this `seq` was sent. Audience: one socket. */
  'sync:done': (payload: Messages['sync.done']) => void;
  /** Events were left out, or cannot make lists right: fetch again what you show. Audience: one socket. */
  'sync:reset': (payload: Messages['sync.reset']) => void;
  /** The token of the socket expires soon. Audience: one socket. */
  'auth:expiring': (payload: Messages['auth.expiring']) => void;
  /** The socket has a new token. Audience: one socket. */
  'auth:refreshed': (payload: Messages['auth.refreshed']) => void;
  /** The server is stopping, and closes the transport. Audience: one socket. */
  'server:draining': (payload: Messages['server.draining']) => void;
  /** An event of the client was refused, or a subscription has ended. Audience: one socket. */
  'error': (payload: Messages['error']) => void;
}

/** Events that the server accepts. */
export interface ClientToServerEvents {
  /** Subscribe to a lead: get its activities, and be one of its viewers. */
  'lead:subscribe': (
    payload: Messages['lead.subscribe'],
    ack?: (answer: Messages['lead.subscribe.ack'] | Messages['refused']) => void,
  ) => void;
  /** End a subscription; it may be repeated. */
  'lead:unsubscribe': (
    payload: Messages['lead.unsubscribe'],
    ack?: (answer: Messages['lead.unsubscribe.ack'] | Messages['refused']) => void,
  ) => void;
  /** Get what was missed, in order, then `sync:done`; or `sync:reset`. */
  'sync:since': (
    payload: Messages['sync.since'],
    ack?: (answer: Messages['sync.since.ack'] | Messages['refused']) => void,
  ) => void;
  /** Stay connected with a new access token of the same user. */
  'auth:refresh': (
    payload: Messages['auth.refresh'],
    ack?: (answer: Messages['auth.refresh.ack'] | Messages['refused']) => void,
  ) => void;
  /** Create a lead. */
  'lead:create': (
    payload: Messages['lead.create'],
    ack?: (answer: Messages['lead.create.ack'] | Messages['refused']) => void,
  ) => void;
  /** Change a lead by a JSON merge patch. */
  'lead:update': (
    payload: Messages['lead.update'],
    ack?: (answer: Messages['lead.update.ack'] | Messages['refused']) => void,
  ) => void;
  /** Delete a lead. */
  'lead:delete': (
    payload: Messages['lead.delete'],
    ack?: (answer: Messages['lead.delete.ack'] | Messages['refused']) => void,
  ) => void;
  /** Give a lead to another owner, or to nobody. */
  'lead:assign': (
    payload: Messages['lead.assign'],
    ack?: (answer: Messages['lead.assign.ack'] | Messages['refused']) => void,
  ) => void;
  /** Add an activity to a lead. */
  'activity:create': (
    payload: Messages['activity.create'],
    ack?: (answer: Messages['activity.create.ack'] | Messages['refused']) => void,
  ) => void;
}

/** Events of the log: they have a `seq` and are replayed. */
export type LoggedEvent =
  | 'lead:created'
  | 'lead:updated'
  | 'lead:assigned'
  | 'lead:deleted'
  | 'lead:revoked'
  | 'activity:created'
  | 'activity:updated'
  | 'activity:deleted'
  | 'notification'
  | 'session:updated';

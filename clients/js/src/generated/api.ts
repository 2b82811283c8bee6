// Generated from docs/openapi.json by scripts/generate.mjs: run `npm run generate` instead of editing.

export interface paths {
    "/api/auth/login": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign in
         * @description Anyone may call it.
         */
        post: operations["login"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/refresh": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Get the next pair of tokens
         * @description A token can be used once. Used again within 15 seconds, it returns the same successor; later, it ends the session.
         *
         *     Anyone may call it.
         */
        post: operations["refresh"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/logout": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Sign out
         * @description Anyone may call it.
         */
        post: operations["logout"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/logout-all": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * End every session of the caller
         * @description For every user.
         */
        post: operations["logoutAll"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the caller's account
         * @description For every user.
         */
        get: operations["readMe"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/auth/password": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Change the caller's password
         * @description For every user.
         */
        post: operations["changePassword"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/users": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List accounts, or the users who can own a lead
         * @description For ADMIN; with `assignable=true`, for every user.
         */
        get: operations["listUsers"];
        put?: never;
        /**
         * Create an account
         * @description For ADMIN.
         */
        post: operations["createUser"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/users/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read an account
         * @description For ADMIN.
         */
        get: operations["readUser"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        /**
         * Change an account
         * @description A new role, name or `active` reaches open sockets at once.
         *
         *     For ADMIN.
         */
        patch: operations["updateUser"];
        trace?: never;
    };
    "/api/leads": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List leads
         * @description For every user.
         */
        get: operations["listLeads"];
        put?: never;
        /**
         * Create a lead
         * @description Not for VIEWER.
         */
        post: operations["createLead"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/leads/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read a lead
         * @description For every user.
         */
        get: operations["readLead"];
        put?: never;
        post?: never;
        /**
         * Delete a lead, or erase it
         * @description For ADMIN and MANAGER.
         */
        delete: operations["deleteLead"];
        options?: never;
        head?: never;
        /**
         * Change a lead
         * @description A patch that changes nothing writes nothing, and keeps the version.
         *
         *     For ADMIN and MANAGER; for SALES, leads that it owns or that nobody owns.
         */
        patch: operations["updateLead"];
        trace?: never;
    };
    "/api/leads/{id}/restore": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Restore a deleted lead
         * @description For ADMIN and MANAGER.
         */
        post: operations["restoreLead"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/leads/{id}/assign": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Give a lead to another owner, or to nobody
         * @description For ADMIN and MANAGER; SALES may take what nobody owns.
         */
        post: operations["assignLead"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/leads/{id}/history": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the changes of a lead, newest first
         * @description For every user.
         */
        get: operations["listLeadChanges"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/leads/{id}/activities": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the activities of a lead, newest first
         * @description For every user.
         */
        get: operations["listActivities"];
        put?: never;
        /**
         * Add an activity to a lead
         * @description Not for VIEWER.
         */
        post: operations["createActivity"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/activities/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read an activity
         * @description For every user.
         */
        get: operations["readActivity"];
        put?: never;
        post?: never;
        /**
         * Delete an activity
         * @description For ADMIN and MANAGER; for SALES, its own. Nobody changes those of the server.
         */
        delete: operations["deleteActivity"];
        options?: never;
        head?: never;
        /**
         * Change an activity
         * @description For ADMIN and MANAGER; for SALES, its own. Nobody changes those of the server.
         */
        patch: operations["updateActivity"];
        trace?: never;
    };
    "/api/presence": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the users who are online, or the viewers of a lead
         * @description For every user.
         */
        get: operations["readPresence"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the plugins, and what they hold back
         * @description For ADMIN.
         */
        get: operations["listPlugins"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/promote": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Put a held candidate in force
         * @description For ADMIN.
         */
        post: operations["promotePlugin"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/drop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Forget a held candidate until its files change
         * @description For ADMIN.
         */
        post: operations["dropCandidate"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/rollback": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Bring the previous generation back
         * @description For ADMIN.
         */
        post: operations["rollBackPlugin"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/effects": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the open effects of a plugin, oldest first
         * @description For ADMIN.
         */
        get: operations["listEffects"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/effects/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Try all parked effects again
         * @description For ADMIN.
         */
        post: operations["retryEffects"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/effects/{id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Drop an effect
         * @description For ADMIN.
         */
        delete: operations["dropEffect"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/plugins/{name}/effects/{id}/retry": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Try an effect again at once
         * @description For ADMIN.
         */
        post: operations["retryEffect"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/events/{seq}/explain": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Explain who received an event, and why
         * @description Takes exactly one of `role` and `userId`.
         *
         *     For ADMIN.
         */
        get: operations["explainEvent"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List the audit table, newest first
         * @description For ADMIN.
         */
        get: operations["listAuditEntries"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read which server this is
         * @description Anyone may call it.
         */
        get: operations["readAbout"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/openapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read this document
         * @description Anyone may call it.
         */
        get: operations["readOpenApi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/asyncapi.json": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read the events of Socket.IO
         * @description Anyone may call it.
         */
        get: operations["readAsyncApi"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/healthz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Is the process alive?
         * @description Anyone may call it.
         */
        get: operations["readHealth"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/readyz": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Can the server serve?
         * @description Anyone may call it.
         */
        get: operations["readReadiness"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /** @description What this server is. */
        About: {
            name: string;
            /** @description Version of the program. */
            version: string;
            /** @description Version of this contract: major.minor. */
            contract: string;
            /** @description Mode that the server runs in. */
            mode: "production" | "demo" | (string & {});
            /** @description Names of what this server can do; expect unknown ones. */
            features: string[];
        };
        /** @description Activity of a lead, as the caller may see it. A plugin may hide members from a role, or add its own. */
        Activity: {
            /** Format: uuid */
            id: string;
            /** Format: uuid */
            leadId?: string;
            type?: components["schemas"]["ActivityType"];
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
            /** @description Members of your own choice. */
            meta?: {
                [key: string]: unknown;
            };
            creator?: components["schemas"]["Person"];
            /** Format: date-time */
            createdAt?: string;
            /** Format: date-time */
            updatedAt?: string;
            /** @description True if no plugin gave a verdict: then no other members are here but the id. */
            withheld?: boolean;
        } & {
            [key: string]: unknown;
        };
        /**
         * @description New activity of a lead.
         * @example {
         *       "type": "CALL",
         *       "body": "Wants an offer by Friday"
         *     }
         */
        ActivityCreate: {
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
        /** @description Page of a list. */
        ActivityPage: {
            items: components["schemas"]["Activity"][];
            /** @description `cursor` of the next page; null if this is the last one. */
            nextCursor: string | null;
            withheld?: boolean | number;
        };
        /**
         * @description JSON merge patch (RFC 7396) of an activity.
         * @example {
         *       "completedAt": "2023-12-01T00:00:00Z"
         *     }
         */
        ActivityPatch: {
            /**
             * @description Kind of activity.
             * @enum {string}
             */
            type?: "NOTE" | "CALL" | "EMAIL" | "MEETING" | "TASK";
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
        /** @description `STATUS_CHANGE` and `ASSIGNMENT` are written by the server alone. */
        ActivityType: "NOTE" | "CALL" | "EMAIL" | "MEETING" | "TASK" | "STATUS_CHANGE" | "ASSIGNMENT" | (string & {});
        /** @description User who caused a change, or a plugin with the role `PLUGIN`. */
        Actor: {
            /** Format: uuid */
            id: string;
            email?: string;
            /** @description Role at that time; `PLUGIN` is no user. */
            role?: "ADMIN" | "MANAGER" | "SALES" | "VIEWER" | "PLUGIN" | (string & {});
        };
        /** @description User who can own a lead. */
        AssignableUser: {
            /** Format: uuid */
            id: string;
            name: string;
        };
        /** @description Page of a list. */
        AssignableUserPage: {
            items: components["schemas"]["AssignableUser"][];
            /** @description `cursor` of the next page; null if this is the last one. */
            nextCursor: string | null;
            withheld?: boolean | number;
        };
        /** @description Entry of the audit table. Members that are not known are null. */
        AuditEntry: {
            id: string;
            /** Format: date-time */
            at: string;
            /**
             * Format: date-time
             * @description Time of the last repetition.
             */
            lastAt: string;
            /** @description Number of repetitions that were counted together. */
            count: number;
            /** @description What happened. */
            kind: "login_failed" | "login_limited" | "password_refused" | "connect_denied" | "refresh_token_reused" | "user_created" | "user_changed" | "administrator_added" | "password_changed" | "sessions_ended" | "plugin_promoted" | "plugin_dropped" | "plugin_rolled_back" | "plugin_enabled" | "plugin_disabled" | "plugin_removed" | "plugin_order_failed" | "effect_retried" | "effect_dropped" | "lead_erased" | (string & {});
            /** @description Id of a user, or `operator` for the command line. */
            actor: string | null;
            /** @description Id of a user or a lead, or the name of a plugin. */
            subject: string | null;
            address: string | null;
            requestId: string | null;
            detail: unknown;
        };
        /** @description Page of a list. */
        AuditEntryPage: {
            items: components["schemas"]["AuditEntry"][];
            /** @description `cursor` of the next page; null if this is the last one. */
            nextCursor: string | null;
            withheld?: boolean | number;
        };
        /** @description Document that describes the contract. */
        Document: {
            [key: string]: unknown;
        };
        /** @description Something that a plugin wants done, and that is not done yet. */
        Effect: {
            id: string;
            name: string;
            input: {
                [key: string]: unknown;
            };
            /** @description Event or reminder that the plugin answered. */
            occasion: string;
            /** @description Position in that answer; null for a gap in the log. */
            index: number | null;
            /** @description Plugins that led to it. */
            chain: string[];
            /** @description `parked`: it failed too often, and waits for you. */
            state: "pending" | "parked" | (string & {});
            attempts: number;
            /** @description Why the last attempt failed. */
            reason: string | null;
            /** Format: date-time */
            happenedAt: string;
            /** Format: date-time */
            dueAt: string | null;
            /** Format: date-time */
            createdAt: string;
        };
        /** @description Page of a list. */
        EffectPage: {
            items: components["schemas"]["Effect"][];
            /** @description `cursor` of the next page; null if this is the last one. */
            nextCursor: string | null;
            withheld?: boolean | number;
        };
        /** @description Result of an erasure: what was erased, and what could not be reached. */
        Erasure: {
            erased: {
                [key: string]: number;
            };
            account?: {
                [key: string]: unknown;
            };
            mentions: {
                [key: string]: unknown;
            }[];
            remains: string[];
        };
        /** @description What a role or a user received of an event, and what decided that. */
        Explanation: {
            seq: number;
            name: string;
            /** Format: date-time */
            at: string;
            /** Format: uuid */
            leadId: string | null;
            rooms: string[];
            role: components["schemas"]["Role"];
            /** Format: uuid */
            userId?: string;
            generation: number;
            inUseSince: number;
            changedSince: boolean;
            plugins: {
                [key: string]: unknown;
            }[];
            steps: {
                [key: string]: unknown;
            }[];
            /** @description What became of the event. */
            outcome: "sent" | "revoked" | "held" | "withheld" | "internal" | "reset" | (string & {});
            audience: string | {
                [key: string]: unknown;
            };
            payload: {
                [key: string]: unknown;
            } | null;
            revoked?: {
                [key: string]: unknown;
            };
            exact: boolean;
            notes: string[];
            replay?: {
                [key: string]: unknown;
            };
        };
        /** @description Problem with one field. */
        FieldError: {
            /** @description Name of the member; for nested data, a path with dots. */
            field: string;
            code: string;
            /** @description Message for people. */
            message: string;
        };
        /** @description The process is alive. */
        Health: {
            status: string;
        };
        /** @description Lead that is withheld from a role, because a plugin gives no verdict. */
        Hold: {
            role: components["schemas"]["Role"];
            /** Format: uuid */
            leadId: string;
            all: boolean;
            firstSeq: number;
            plugin: string;
            reason: string;
            /** Format: date-time */
            since: string;
        };
        /**
         * @description Lead, as the caller may see it. A plugin may hide members from a role, or add its own: only `id` is certain.
         * @example {
         *       "id": "0190a8c1-7b4e-7c3a-9f11-3a5d0c6f2b10",
         *       "title": "New roof",
         *       "status": "NEW",
         *       "contactName": "Kim Berg",
         *       "company": "Berg AS",
         *       "email": "kim@berg.example",
         *       "phone": "+47 22 00 00 00",
         *       "source": "web",
         *       "valueCents": 1250000,
         *       "currency": "EUR",
         *       "description": null,
         *       "custom": {
         *         "territory": "north"
         *       },
         *       "owner": null,
         *       "createdBy": {
         *         "id": "0190a8bf-0000-7000-8000-000000000001",
         *         "name": "Ann",
         *         "email": "ann@example.com"
         *       },
         *       "lastActivityAt": null,
         *       "version": 1,
         *       "rev": 1,
         *       "createdAt": "2023-12-01T00:00:00.000Z",
         *       "updatedAt": "2023-12-01T00:00:00.000Z"
         *     }
         */
        Lead: {
            /** Format: uuid */
            id: string;
            /** @description Short name of what is to be sold. */
            title?: string;
            status?: components["schemas"]["LeadStatus"];
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
            /** @description ISO 4217 code of the currency. */
            currency?: string;
            /** @description Free text. */
            description?: string | null;
            /** @description Id of the lead in another system, such as the one that it was imported from. */
            externalId?: string | null;
            /** @description Members of your own choice. */
            custom?: {
                [key: string]: unknown;
            };
            owner?: components["schemas"]["Person"] | null;
            createdBy?: components["schemas"]["Person"];
            /** Format: date-time */
            lastActivityAt?: string | null;
            /** @description Number of changes of what clients write, for `If-Match`. */
            version?: number;
            /** @description Number of writes: of two copies of a lead, the larger one is newer. */
            rev?: number;
            /** Format: date-time */
            createdAt?: string;
            /** Format: date-time */
            updatedAt?: string;
            /** @description True if no plugin gave a verdict: then no other members are here but the id. */
            withheld?: boolean;
        } & {
            [key: string]: unknown;
        };
        /**
         * @description New owner of a lead.
         * @example {
         *       "ownerId": null
         *     }
         */
        LeadAssignment: {
            /**
             * Format: uuid
             * @description Id of the new owner, or null for none.
             */
            ownerId: string | null;
        };
        /** @description One changed field of a lead. */
        LeadChange: {
            id: string;
            /** @description Name of the member, or `deleted`. */
            field: string;
            from?: unknown;
            to?: unknown;
            changedBy?: components["schemas"]["Actor"] | null;
            /** Format: date-time */
            changedAt: string;
        };
        /** @description Page of a list. */
        LeadChangePage: {
            items: components["schemas"]["LeadChange"][];
            /** @description `cursor` of the next page; null if this is the last one. */
            nextCursor: string | null;
            withheld?: boolean | number;
        };
        /**
         * @description New lead. A lead that a SALES user creates belongs to that user.
         * @example {
         *       "title": "New roof",
         *       "valueCents": 1250000
         *     }
         */
        LeadCreate: {
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
        /** @description Page of a list. */
        LeadPage: {
            items: components["schemas"]["Lead"][];
            /** @description `cursor` of the next page; null if this is the last one. */
            nextCursor: string | null;
            withheld?: boolean | number;
        };
        /**
         * @description JSON merge patch (RFC 7396) of a lead: null removes a member.
         * @example {
         *       "status": "WON",
         *       "phone": null
         *     }
         */
        LeadPatch: {
            /** @description Short name of what is to be sold. */
            title?: string;
            /**
             * @description Stage in the pipeline; any may follow any other.
             * @enum {string}
             */
            status?: "NEW" | "CONTACTED" | "QUALIFIED" | "PROPOSAL" | "NEGOTIATION" | "WON" | "LOST" | "UNQUALIFIED";
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
            /** @description ISO 4217 code of the currency. */
            currency?: string;
            /** @description Free text. */
            description?: string | null;
            /** @description Id of the lead in another system, such as the one that it was imported from. */
            externalId?: string | null;
            /** @description Members of your own choice. At most 32768 bytes of JSON and 8 levels; numbers must be exact. */
            custom?: {
                [key: string]: unknown;
            } | null;
        };
        /** @description Stage in the pipeline. */
        LeadStatus: "NEW" | "CONTACTED" | "QUALIFIED" | "PROPOSAL" | "NEGOTIATION" | "WON" | "LOST" | "UNQUALIFIED" | (string & {});
        /** @description Credentials. */
        Login: {
            /** @description E-mail address of the account. */
            email: string;
            /** @description Password of the account. */
            password: string;
        };
        /** @description No members. */
        Nothing: Record<string, never>;
        /** @description User who is online. */
        OnlineUser: {
            /** Format: uuid */
            id: string;
            name: string;
            online: boolean;
            /**
             * Format: date-time
             * @description Time at which the user's first socket connected.
             */
            since: string;
        };
        /** @description Users who are online, by name. */
        OnlineUsers: {
            users: components["schemas"]["OnlineUser"][];
        };
        /** @description Change of the caller's password. */
        PasswordChange: {
            /** @description Password as it is now. */
            currentPassword: string;
            /** @description New password; control characters are refused. */
            newPassword: string;
        };
        /** @description Reference to a user. */
        Person: {
            /** Format: uuid */
            id: string;
            name?: string;
            email?: string;
        } & {
            [key: string]: unknown;
        };
        /** @description Plugin: its state, what it may do, and what it did. */
        Plugin: {
            name: string;
            file: string;
            /** @description State of the plugin. */
            state: "active" | "shadow" | "failing" | "refused" | "disabled" | "missing" | (string & {});
            /** @description Why it is not active, or why the file in the directory is not. */
            reason?: string;
            /** @description Artifact in the directory, where it is not the active one. */
            candidate?: {
                [key: string]: unknown;
            };
            version: string | null;
            /** @description SHA-256 of the file, in hexadecimal. */
            hash: string | null;
            /** @description Generation that a rollback would bring back. */
            previous?: {
                [key: string]: unknown;
            };
            rolledBackFrom?: string;
            generation: number | null;
            hooks: string[];
            asked?: {
                [key: string]: unknown;
            };
            granted?: {
                [key: string]: unknown;
            };
            /** @description Mode according to its settings. */
            mode: "active" | "shadow" | (string & {});
            /** @description Report of a plugin in shadow mode: what it would have done. */
            shadow?: {
                [key: string]: unknown;
            };
            /** @description True if something is denied or held back because of its state. */
            holds: boolean;
            counts: {
                [key: string]: number;
            };
            breaker?: {
                [key: string]: unknown;
            };
            instances?: {
                [key: string]: number;
            };
            limits?: {
                [key: string]: number;
            };
            metrics: {
                [key: string]: unknown;
            };
            dropped?: {
                [key: string]: number;
            };
            lastFault?: {
                [key: string]: unknown;
            } | null;
            trial?: {
                [key: string]: unknown;
            };
            /** @description Its place in the log, and its open effects. */
            effects?: {
                [key: string]: unknown;
            } | null;
        };
        /** @description Promotion of the held candidate. */
        PluginPromotion: {
            /** @description Hash that the held candidate must have. */
            hash?: string | null;
        };
        /** @description Rollback of the plugin in force. */
        PluginRollback: {
            /** @description Hash that the plugin in force must have. */
            from?: string | null;
        };
        /** @description Plugins, and what they hold back. */
        Plugins: {
            generation: number;
            items: components["schemas"]["Plugin"][];
            holds: components["schemas"]["Hold"][];
        };
        /**
         * @description Problem details (RFC 9457). Base your logic on `code`.
         * @example {
         *       "type": "about:blank",
         *       "title": "Unprocessable Entity",
         *       "status": 422,
         *       "detail": "title is required",
         *       "code": "invalid",
         *       "requestId": "0190a8c3-0000-7000-8000-000000000001",
         *       "errors": [
         *         {
         *           "field": "title",
         *           "code": "required",
         *           "message": "title is required"
         *         }
         *       ]
         *     }
         */
        Problem: {
            type: string;
            title: string;
            status: number;
            /** @description Message for people. */
            detail: string;
            code: string;
            /** @description `X-Request-Id` of the response. */
            requestId: string;
            errors?: components["schemas"]["FieldError"][];
            current?: components["schemas"]["Lead"];
        };
        /** @description Readiness of the server, check by check. */
        Readiness: {
            status: string;
            checks: {
                [key: string]: string;
            };
            reasons?: {
                [key: string]: string;
            };
        };
        /** @description Refresh token. */
        RefreshToken: {
            /** @description The newest refresh token. */
            refreshToken: string;
        };
        /** @description Parked effects that are tried again. */
        Retried: {
            retried: number;
        };
        /** @description Role of a user. */
        Role: "ADMIN" | "MANAGER" | "SALES" | "VIEWER" | (string & {});
        /** @description Access token, and the refresh token that gets the next one. */
        Tokens: {
            accessToken: string;
            refreshToken: string;
            /** @description Seconds until the access token expires. */
            expiresIn: number;
            user: components["schemas"]["User"];
        };
        /** @description Account, as administrators and its user see it. */
        User: {
            /** Format: uuid */
            id: string;
            email: string;
            name: string;
            role: components["schemas"]["Role"];
            active: boolean;
            /** Format: date-time */
            createdAt: string;
            /** Format: date-time */
            updatedAt: string;
        };
        /** @description New account. */
        UserCreate: {
            /**
             * Format: email
             * @description E-mail address to sign in with, unique ignoring the case of ASCII letters.
             */
            email: string;
            /** @description Name that others see. */
            name: string;
            /**
             * @description Role, which decides what the user may do.
             * @enum {string}
             */
            role: "ADMIN" | "MANAGER" | "SALES" | "VIEWER";
            /**
             * @description False for an account that cannot sign in.
             * @default true
             */
            active?: boolean | null;
            /** @description Password; control characters are refused. */
            password: string;
        };
        /** @description Page of a list. */
        UserPage: {
            items: components["schemas"]["User"][];
            /** @description `cursor` of the next page; null if this is the last one. */
            nextCursor: string | null;
            withheld?: boolean | number;
        };
        /** @description Change of an account. */
        UserPatch: {
            /**
             * Format: email
             * @description E-mail address to sign in with, unique ignoring the case of ASCII letters.
             */
            email?: string;
            /** @description Name that others see. */
            name?: string;
            /**
             * @description Role, which decides what the user may do.
             * @enum {string}
             */
            role?: "ADMIN" | "MANAGER" | "SALES" | "VIEWER";
            /** @description False for an account that cannot sign in. */
            active?: boolean;
            /** @description Password; control characters are refused. */
            password?: string;
        };
        /** @description Viewers of a lead: the first hundred by name, and how many there are in all. */
        Viewers: {
            leadId: string;
            users?: components["schemas"]["Person"][];
            total?: number;
        };
    };
    responses: {
        /**
         * @description `invalid_query`: A query parameter is unknown or has an invalid value, or the cursor is of another list.
         *     `malformed`: The body is not a JSON object, or a header cannot be read.
         */
        "400_invalid_query_malformed": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "invalid_query" | "malformed" | (string & {});
                };
            };
        };
        /** @description `invalid_credentials`: The e-mail address or the password is wrong. */
        "401_invalid_credentials": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "invalid_credentials" | (string & {});
                };
            };
        };
        /**
         * @description `refresh_token_reused`: The refresh token was used before; its session has ended.
         *     `unauthenticated`: The token is missing, invalid or expired.
         */
        "401_refresh_token_reused_unauthenticated": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "refresh_token_reused" | "unauthenticated" | (string & {});
                };
            };
        };
        /** @description `unauthenticated`: The token is missing, invalid or expired. */
        "401_unauthenticated": {
            headers: {
                "WWW-Authenticate": components["headers"]["WWW-Authenticate"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "unauthenticated" | (string & {});
                };
            };
        };
        /**
         * @description `field_hidden`: A plugin hides this field from you, so you cannot filter or sort by it.
         *     `forbidden`: You may see it, but not do this.
         */
        "403_field_hidden_forbidden": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "field_hidden" | "forbidden" | (string & {});
                };
            };
        };
        /** @description `forbidden`: You may see it, but not do this. */
        "403_forbidden": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "forbidden" | (string & {});
                };
            };
        };
        /** @description `activity_not_found`: There is no such activity, or you may not see its lead. */
        "404_activity_not_found": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "activity_not_found" | (string & {});
                };
            };
        };
        /**
         * @description `effect_not_found`: The plugin has no such open effect.
         *     `plugin_not_found`: There is no such plugin.
         */
        "404_effect_not_found_plugin_not_found": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "effect_not_found" | "plugin_not_found" | (string & {});
                };
            };
        };
        /**
         * @description `event_not_found`: There is no such event in the log.
         *     `user_not_found`: There is no such user.
         */
        "404_event_not_found_user_not_found": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "event_not_found" | "user_not_found" | (string & {});
                };
            };
        };
        /** @description `lead_not_found`: There is no such lead, or you may not see it. */
        "404_lead_not_found": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "lead_not_found" | (string & {});
                };
            };
        };
        /** @description `plugin_not_found`: There is no such plugin. */
        "404_plugin_not_found": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "plugin_not_found" | (string & {});
                };
            };
        };
        /** @description `user_not_found`: There is no such user. */
        "404_user_not_found": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "user_not_found" | (string & {});
                };
            };
        };
        /** @description `request_timeout`: The body took too long to arrive. */
        "408_request_timeout": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "request_timeout" | (string & {});
                };
            };
        };
        /** @description `not_explained`: The state that shaped the event was not recorded, or can no longer be loaded. */
        "409_not_explained": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "not_explained" | (string & {});
                };
            };
        };
        /**
         * @description `not_in_force`: The plugin would not come into force; nothing was changed.
         *     `nothing_before`: There is no previous generation, or its code was not kept whole.
         *     `other_in_force`: The plugin in force has another hash.
         */
        "409_not_in_force_nothing_before_other_in_force": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "not_in_force" | "nothing_before" | "other_in_force" | (string & {});
                };
            };
        };
        /**
         * @description `not_in_force`: The plugin would not come into force; nothing was changed.
         *     `nothing_held`: No candidate is held.
         *     `other_held`: The held candidate has another hash.
         */
        "409_not_in_force_nothing_held_other_held": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "not_in_force" | "nothing_held" | "other_held" | (string & {});
                };
            };
        };
        /** @description `nothing_held`: No candidate is held. */
        "409_nothing_held": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "nothing_held" | (string & {});
                };
            };
        };
        /** @description `version_conflict`: The lead has another version; `current` is the lead as it is now. */
        "412_version_conflict": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "version_conflict" | (string & {});
                };
            };
        };
        /** @description `payload_too_large`: The body is too long. */
        "413_payload_too_large": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "payload_too_large" | (string & {});
                };
            };
        };
        /** @description `unsupported_media_type`: The body must be JSON in UTF-8, without a Content-Encoding. */
        "415_unsupported_media_type": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "unsupported_media_type" | (string & {});
                };
            };
        };
        /**
         * @description `idempotency_key_reused`: The idempotency key was already used for another request.
         *     `invalid`: `errors` lists every invalid field.
         */
        "422_idempotency_key_reused_invalid": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "idempotency_key_reused" | "invalid" | (string & {});
                };
            };
        };
        /**
         * @description `idempotency_key_reused`: The idempotency key was already used for another request.
         *     `invalid`: `errors` lists every invalid field.
         *     A plugin refused the request, under a code of its own.
         */
        "422_idempotency_key_reused_invalid_plugin": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "idempotency_key_reused" | "invalid" | (string & {});
                };
            };
        };
        /** @description `invalid`: `errors` lists every invalid field. */
        "422_invalid": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "invalid" | (string & {});
                };
            };
        };
        /**
         * @description `invalid`: `errors` lists every invalid field.
         *     A plugin refused the request, under a code of its own.
         */
        "422_invalid_plugin": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "invalid" | (string & {});
                };
            };
        };
        /** @description `rate_limited`: Too many attempts, or too many requests in progress. */
        "429_rate_limited": {
            headers: {
                "Retry-After": components["headers"]["Retry-After"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "rate_limited" | (string & {});
                };
            };
        };
        /**
         * @description `database_corrupt`: Stored data cannot be read; `detail` names the table.
         *     `internal`: A fault of the server; its log has the details under `requestId`.
         */
        "500_database_corrupt_internal": {
            headers: {
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "database_corrupt" | "internal" | (string & {});
                };
            };
        };
        /**
         * @description `database_unavailable`: The database cannot be used at the moment; nothing was changed.
         *     `plugin_unavailable`: A plugin that must be asked is failing.
         *     `timeout`: The request took too long.
         *     `unavailable`: The server is too busy.
         */
        "503_database_unavailable_plugin_unavailable_timeout_unavailable": {
            headers: {
                "Retry-After": components["headers"]["Retry-After"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "database_unavailable" | "plugin_unavailable" | "timeout" | "unavailable" | (string & {});
                };
            };
        };
        /**
         * @description `database_unavailable`: The database cannot be used at the moment; nothing was changed.
         *     `timeout`: The request took too long.
         *     `unavailable`: The server is too busy.
         */
        "503_database_unavailable_timeout_unavailable": {
            headers: {
                "Retry-After": components["headers"]["Retry-After"];
                [name: string]: unknown;
            };
            content: {
                "application/problem+json": components["schemas"]["Problem"] & {
                    /** @description Code of the refusal. */
                    code?: "database_unavailable" | "timeout" | "unavailable" | (string & {});
                };
            };
        };
    };
    parameters: never;
    requestBodies: never;
    headers: {
        /** @description Version of the lead in quotes, such as `"3"`, for `If-Match`. */
        ETag: string;
        /** @description Last event that the command wrote; the head of the log if it wrote none. */
        "Leadwire-Seq": number;
        /** @description Path of the new item. */
        Location: string;
        /** @description Seconds to wait before the next attempt, if it is known. */
        "Retry-After": number;
        /** @description Scheme of the token that is required. */
        "WWW-Authenticate": string;
    };
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    login: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["Login"];
            };
        };
        responses: {
            /** @description A pair of tokens. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Tokens"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_invalid_credentials"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    refresh: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RefreshToken"];
            };
        };
        responses: {
            /** @description A pair of tokens. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Tokens"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_refresh_token_reused_unauthenticated"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    logout: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["RefreshToken"];
            };
        };
        responses: {
            /** @description The session has ended, or there was none. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    logoutAll: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Nothing"];
            };
        };
        responses: {
            /** @description Every session has ended. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    readMe: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The account. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["User"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    changePassword: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["PasswordChange"];
            };
        };
        responses: {
            /** @description The password is changed, and every other session has ended. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    listUsers: {
        parameters: {
            query?: {
                /** @description True for the users who can own a lead, for every user. */
                assignable?: boolean;
                /** @description Most items of the page. */
                limit?: number;
                /** @description `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of accounts, or all assignable users. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UserPage"] | components["schemas"]["AssignableUserPage"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    createUser: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key with the same request within 24 hours is not carried out again. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["UserCreate"];
            };
        };
        responses: {
            /** @description The account. */
            201: {
                headers: {
                    Location: components["headers"]["Location"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["User"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_idempotency_key_reused_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    readUser: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The account. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["User"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_user_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    updateUser: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["UserPatch"];
                "application/merge-patch+json": components["schemas"]["UserPatch"];
            };
        };
        responses: {
            /** @description The account. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["User"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_user_not_found"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    listLeads: {
        parameters: {
            query?: {
                /** @description True for deleted leads alone; for ADMIN and MANAGER. */
                deleted?: boolean;
                /** @description Statuses; may repeat. */
                status?: ("NEW" | "CONTACTED" | "QUALIFIED" | "PROPOSAL" | "NEGOTIATION" | "WON" | "LOST" | "UNQUALIFIED")[];
                /** @description Owner, or `none` for leads without one. */
                ownerId?: "none" | "" | (string & {});
                /** @description Source of the lead. */
                source?: string;
                /** @description Only leads created later than this. */
                createdAfter?: string;
                /** @description Only leads created earlier than this. */
                createdBefore?: string;
                /** @description Text in the title, contact, company, e-mail, phone or description. */
                q?: string;
                /** @description Member to sort by; `-` in front sorts downwards. */
                sort?: "updatedAt" | "-updatedAt" | "createdAt" | "-createdAt" | "lastActivityAt" | "-lastActivityAt" | "title" | "-title" | "company" | "-company" | "status" | "-status" | "valueCents" | "-valueCents";
                /** @description Most items of the page. */
                limit?: number;
                /** @description `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of leads. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LeadPage"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_field_hidden_forbidden"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    createLead: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key with the same request within 24 hours is not carried out again. */
                "Idempotency-Key"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LeadCreate"];
            };
        };
        responses: {
            /** @description The lead. */
            201: {
                headers: {
                    ETag: components["headers"]["ETag"];
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    Location: components["headers"]["Location"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lead"];
                };
            };
            /** @description Repeated with its key after the lead was erased: there is nothing to show. */
            204: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_idempotency_key_reused_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    readLead: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The lead. */
            200: {
                headers: {
                    ETag: components["headers"]["ETag"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lead"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            404: components["responses"]["404_lead_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    deleteLead: {
        parameters: {
            query?: {
                /** @description True to erase the lead for good; for ADMIN. */
                erase?: boolean;
            };
            header?: {
                /** @description Version that the change builds on, such as `"3"`, or `*`. */
                "If-Match"?: string;
            };
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The lead is erased. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Erasure"];
                };
            };
            /** @description The lead is hidden but kept. */
            204: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_lead_not_found"];
            412: components["responses"]["412_version_conflict"];
            422: components["responses"]["422_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    updateLead: {
        parameters: {
            query?: never;
            header?: {
                /** @description Version that the change builds on, such as `"3"`, or `*`. */
                "If-Match"?: string;
            };
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LeadPatch"];
                "application/merge-patch+json": components["schemas"]["LeadPatch"];
            };
        };
        responses: {
            /** @description The lead. */
            200: {
                headers: {
                    ETag: components["headers"]["ETag"];
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lead"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_lead_not_found"];
            408: components["responses"]["408_request_timeout"];
            412: components["responses"]["412_version_conflict"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    restoreLead: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key with the same request within 24 hours is not carried out again. */
                "Idempotency-Key"?: string;
                /** @description Version that the change builds on, such as `"3"`, or `*`. */
                "If-Match"?: string;
            };
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Nothing"];
            };
        };
        responses: {
            /** @description The lead. */
            200: {
                headers: {
                    ETag: components["headers"]["ETag"];
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lead"];
                };
            };
            /** @description Repeated with its key after the lead was erased: there is nothing to show. */
            204: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_lead_not_found"];
            408: components["responses"]["408_request_timeout"];
            412: components["responses"]["412_version_conflict"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_idempotency_key_reused_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    assignLead: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key with the same request within 24 hours is not carried out again. */
                "Idempotency-Key"?: string;
                /** @description Version that the change builds on, such as `"3"`, or `*`. */
                "If-Match"?: string;
            };
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["LeadAssignment"];
            };
        };
        responses: {
            /** @description The lead. */
            200: {
                headers: {
                    ETag: components["headers"]["ETag"];
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Lead"];
                };
            };
            /** @description Repeated with its key after the lead was erased: there is nothing to show. */
            204: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_lead_not_found"];
            408: components["responses"]["408_request_timeout"];
            412: components["responses"]["412_version_conflict"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_idempotency_key_reused_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    listLeadChanges: {
        parameters: {
            query?: {
                /** @description Most items of the page. */
                limit?: number;
                /** @description `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of changes. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["LeadChangePage"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            404: components["responses"]["404_lead_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    listActivities: {
        parameters: {
            query?: {
                /** @description Most items of the page. */
                limit?: number;
                /** @description `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of activities. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ActivityPage"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            404: components["responses"]["404_lead_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    createActivity: {
        parameters: {
            query?: never;
            header?: {
                /** @description The same key with the same request within 24 hours is not carried out again. */
                "Idempotency-Key"?: string;
            };
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ActivityCreate"];
            };
        };
        responses: {
            /** @description The activity. */
            201: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    Location: components["headers"]["Location"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Activity"];
                };
            };
            /** @description Repeated with its key after the lead was erased: there is nothing to show. */
            204: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_lead_not_found"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_idempotency_key_reused_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    readActivity: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The activity. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Activity"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            404: components["responses"]["404_activity_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    deleteActivity: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The activity is deleted. */
            204: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_activity_not_found"];
            422: components["responses"]["422_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    updateActivity: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Id of the item. */
                id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": components["schemas"]["ActivityPatch"];
                "application/merge-patch+json": components["schemas"]["ActivityPatch"];
            };
        };
        responses: {
            /** @description The activity. */
            200: {
                headers: {
                    "Leadwire-Seq": components["headers"]["Leadwire-Seq"];
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Activity"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_activity_not_found"];
            408: components["responses"]["408_request_timeout"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid_plugin"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    readPresence: {
        parameters: {
            query?: {
                /** @description Lead whose viewers are wanted. */
                leadId?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Users who are online; with `leadId`, the viewers of that lead. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["OnlineUsers"] | components["schemas"]["Viewers"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_lead_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_plugin_unavailable_timeout_unavailable"];
        };
    };
    listPlugins: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The plugins. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugins"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    promotePlugin: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Name of the plugin. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["PluginPromotion"];
            };
        };
        responses: {
            /** @description The plugin. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_plugin_not_found"];
            408: components["responses"]["408_request_timeout"];
            409: components["responses"]["409_not_in_force_nothing_held_other_held"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    dropCandidate: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Name of the plugin. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["Nothing"];
            };
        };
        responses: {
            /** @description The plugin. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_plugin_not_found"];
            408: components["responses"]["408_request_timeout"];
            409: components["responses"]["409_nothing_held"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    rollBackPlugin: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Name of the plugin. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": components["schemas"]["PluginRollback"];
            };
        };
        responses: {
            /** @description The plugin. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Plugin"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_plugin_not_found"];
            408: components["responses"]["408_request_timeout"];
            409: components["responses"]["409_not_in_force_nothing_before_other_in_force"];
            413: components["responses"]["413_payload_too_large"];
            415: components["responses"]["415_unsupported_media_type"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    listEffects: {
        parameters: {
            query?: {
                /** @description State; both if it is left out. */
                state?: "pending" | "parked";
                /** @description Most items of the page. */
                limit?: number;
                /** @description `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path: {
                /** @description Name of the plugin. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of effects. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["EffectPage"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_plugin_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    retryEffects: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Name of the plugin. */
                name: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Number of parked effects that are tried again. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Retried"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_plugin_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    dropEffect: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Name of the plugin. */
                name: string;
                /** @description Id of the effect. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The effect is dropped. */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_effect_not_found_plugin_not_found"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    retryEffect: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description Name of the plugin. */
                name: string;
                /** @description Id of the effect. */
                id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The effect. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Effect"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_effect_not_found_plugin_not_found"];
            422: components["responses"]["422_invalid"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    explainEvent: {
        parameters: {
            query?: {
                /** @description Role whose view is explained. */
                role?: "ADMIN" | "MANAGER" | "SALES" | "VIEWER";
                /** @description User whose view is explained. */
                userId?: string;
            };
            header?: never;
            path: {
                /** @description Position of the event in the log. */
                seq: number;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The explanation. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Explanation"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            404: components["responses"]["404_event_not_found_user_not_found"];
            409: components["responses"]["409_not_explained"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    listAuditEntries: {
        parameters: {
            query?: {
                /** @description Kinds; may repeat. */
                kind?: ("login_failed" | "login_limited" | "password_refused" | "connect_denied" | "refresh_token_reused" | "user_created" | "user_changed" | "administrator_added" | "password_changed" | "sessions_ended" | "plugin_promoted" | "plugin_dropped" | "plugin_rolled_back" | "plugin_enabled" | "plugin_disabled" | "plugin_removed" | "plugin_order_failed" | "effect_retried" | "effect_dropped" | "lead_erased")[];
                /** @description User who did it, or to whom it was done. */
                user?: string;
                /** @description Only entries from this time on. */
                since?: string;
                /** @description Most items of the page. */
                limit?: number;
                /** @description `nextCursor` of the page before. */
                cursor?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A page of entries. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditEntryPage"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            401: components["responses"]["401_unauthenticated"];
            403: components["responses"]["403_forbidden"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    readAbout: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Name, versions, mode and features. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["About"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    readOpenApi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description OpenAPI 3.1. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Document"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    readAsyncApi: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description AsyncAPI 3.0. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Document"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    readHealth: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It is. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            503: components["responses"]["503_database_unavailable_timeout_unavailable"];
        };
    };
    readReadiness: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description It can. */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
            400: components["responses"]["400_invalid_query_malformed"];
            429: components["responses"]["429_rate_limited"];
            500: components["responses"]["500_database_corrupt_internal"];
            /** @description It cannot. */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Readiness"];
                };
            };
        };
    };
}

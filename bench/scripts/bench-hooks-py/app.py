"""`guests/enrich`, `guests/guard` and `guests/follow` in Python. Each hook declares its own fields, so that it gets the
same input as its guest in Rust."""

import json
from datetime import datetime, timedelta

from wit_world import exports
from wit_world.exports.after import Effect, Outcome, Wanted
from wit_world.exports.authorize import Decision_Allow, Decision_Deny
from wit_world.exports.before import Refusal, Ruling_Accept, Ruling_Amend, Ruling_Refuse
from wit_world.exports.lifecycle import Manifest
from wit_world.imports.types import Edit_Set, Setting

CHANCES = {"NEW": 10, "QUALIFIED": 40, "PROPOSAL": 40, "NEGOTIATION": 70}


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return Manifest(
            name="bench-hooks-py",
            version="0.1.0",
            events=["lead:updated"],
            roles=[],
            fields=["/lead/valueCents", "/lead/status", "/context/user/email", "/input/source", "/input/valueCents"],
            whole_payload=False,
        )

    def init(self, config):
        pass


class Enrich(exports.Enrich):
    def enrich(self, event):
        fields = read(event)
        cents = fields.get("/lead/valueCents")
        if cents is None:
            return []
        worth = cents * CHANCES.get(fields.get("/lead/status"), 0) // 100
        return [Edit_Set(Setting("/lead/worth", json.dumps(worth)))]


class Authorize(exports.Authorize):
    def connect(self, who):
        email = read(who).get("/context/user/email") or ""
        return Decision_Allow() if email.endswith("@example.com") else Decision_Deny("staff only")

    def subscribe(self, who, room):
        return Decision_Allow()


class Before(exports.Before):
    def commands(self):
        return ["*"]

    def before(self, command):
        fields = read(command)
        if (fields.get("/input/valueCents") or 0) > 5_000_000:
            return Ruling_Refuse(Refusal("too_large", "ask your manager", "valueCents"))
        if fields.get("/input/source") == "www":
            return Ruling_Amend([Edit_Set(Setting("/input/source", '"web"'))])
        return Ruling_Accept()


class After(exports.After):
    def wants(self):
        return Wanted(events=["lead:updated"], effects=["remind"], webhook_hosts=[])

    def after(self, occasion):
        fields = read(occasion.event)
        cents = fields.get("/lead/valueCents")
        if cents is None:
            return Outcome([], None)
        at = datetime.fromisoformat(occasion.at) + timedelta(days=1)
        input = {"at": at.isoformat(), "key": fields.get("/lead/status") or "", "data": cents}
        return Outcome([Effect("remind", json.dumps(input))], str(int(occasion.state or 0) + 1))


def read(asked):
    return {field.pointer: json.loads(field.json) for field in asked.fields}

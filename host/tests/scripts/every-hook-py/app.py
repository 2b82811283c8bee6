"""Every hook in Python, each with a little work, and with the harm that its settings select."""

import json
import sys
from typing import Any

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import after, before, filter
from wit_world.exports.authorize import Decision_Allow, Decision_Deny
from wit_world.exports.lifecycle import Manifest
from wit_world.imports import host
from wit_world.imports.types import Edit_Mask, Edit_Remove, Edit_Set, Masking, Setting

sys.excepthook = lambda kind, error, _: host.log("error", f"{kind.__name__}: {error}")

harm: dict[str, str] = {}


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return Manifest(
            name="every-hook-py",
            version="0.1.0",
            events=["lead:*"],
            roles=[],
            fields=["/lead/email", "/lead/title", "/input/source", "/context/user/email"],
            whole_payload=False,
        )

    def init(self, config):
        global harm
        harm = json.loads(config)
        perform("init")


class Authorize(exports.Authorize):
    def connect(self, who):
        perform("connect")
        stranger = any(field.json.startswith('"stranger') for field in who.fields)
        return Decision_Deny("no strangers") if stranger else Decision_Allow()

    def subscribe(self, who, room):
        return Decision_Allow()


class Before(exports.Before):
    def commands(self):
        return ["lead:create", "lead:update"]

    def before(self, command):
        perform("before")
        source = read(command, "/input/source")
        if source == "spam":
            return before.Ruling_Refuse(before.Refusal("spam", "no spam", "source"))
        if source == "www":
            return before.Ruling_Amend([Edit_Set(Setting("/input/source", '"web"'))])
        return before.Ruling_Accept()


class Enrich(exports.Enrich):
    def enrich(self, event):
        perform("enrich")
        title = read(event, "/lead/title")
        return [] if title is None else [Edit_Set(Setting("/lead/loud", json.dumps(title.upper())))]


class Filter(exports.Filter):
    def hides(self):
        return [filter.Hidden("VIEWER", ["/lead/email", "/lead/phone"])]

    def filter(self, event, roles):
        perform("filter")
        host.count("filtered", 1)
        text = f"{len(read(event, '/lead/email') or '')} letters"
        hidden = [Edit_Mask(Masking("/lead/email", text)), Edit_Remove("/lead/phone")]
        everyone = filter.Audience_Everyone()
        return [filter.Verdict(role, everyone, hidden if role == "VIEWER" else []) for role in roles]


class After(exports.After):
    def wants(self):
        return after.Wanted(events=["lead:*"], effects=[], webhook_hosts=[])

    def after(self, occasion):
        perform("after")
        return after.Outcome(effects=[], state=str(int(occasion.state or 0) + 1))


def read(asked: Any, pointer: str) -> Any:
    return next((json.loads(field.json) for field in asked.fields if field.pointer == pointer), None)


def perform(hook: str) -> None:
    match harm.get(hook):
        case "log":
            host.log("info", f"now is {host.now_ms()}")
        case "refuse":
            raise Err("it said no")
        case "throw":
            raise TypeError("nobody expects this")
        case "spin":
            while True:
                pass
        case "recurse":
            deeper()
        case "allocate":
            held = []
            while True:
                held.append(bytearray(1 << 20))


def deeper() -> int:
    return deeper() + 1

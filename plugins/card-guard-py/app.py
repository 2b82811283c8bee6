"""Keeps payment card numbers out of the database: masks them in the text of commands, or refuses the command.

The two classes below implement the hooks; `cards` finds the numbers, and `faults` reports exceptions.
"""

import json

import faults
from cards import masked
from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.before import Command, Refusal, Ruling, Ruling_Accept, Ruling_Amend, Ruling_Refuse
from wit_world.exports.lifecycle import Manifest
from wit_world.imports.types import Edit_Set, Setting

faults.log_them()

# Fields with free text.
FIELDS = ["body", "description", "title"]
ACTIONS = ["mask", "refuse"]

action = "mask"


class Lifecycle(exports.Lifecycle):
    def describe(self) -> Manifest:
        return Manifest(
            name="card-guard-py",
            version="0.1.0",
            events=[],
            roles=[],
            fields=[f"/input/{field}" for field in FIELDS],
            whole_payload=False,
        )

    def init(self, config: str) -> None:
        global action
        settings = json.loads(config)
        action = settings.pop("action", "mask")
        for key in settings:
            raise Err(f"config.{key}: unknown setting; expected action")
        if action not in ACTIONS:
            raise Err(f"config.action: {json.dumps(action)} is not one of {', '.join(ACTIONS)}")


class Before(exports.Before):
    def commands(self) -> list[str]:
        return ["lead:create", "lead:update", "activity:create", "activity:update"]

    def before(self, command: Command) -> Ruling:
        edits = []
        for field in command.fields:
            text = json.loads(field.json)
            if not isinstance(text, str) or masked(text) == text:
                continue
            if action == "refuse":
                name = field.pointer.removeprefix("/input/")
                return Ruling_Refuse(Refusal("card_number", f"{name} must not contain a payment card number", name))
            edits.append(Edit_Set(Setting(field.pointer, json.dumps(masked(text)))))
        return Ruling_Amend(edits) if edits else Ruling_Accept()

"""`guests/filter` in Python."""

import json

from wit_world import exports
from wit_world.exports.filter import Audience_Everyone, Hidden, Verdict
from wit_world.exports.lifecycle import Manifest
from wit_world.imports.types import Edit_Mask, Edit_Remove, Masking


class Lifecycle(exports.Lifecycle):
    def describe(self):
        return Manifest(
            name="bench-filter-py",
            version="0.1.0",
            events=["lead:updated"],
            roles=["MANAGER", "SALES", "VIEWER"],
            fields=["/lead/email", "/lead/valueCents"],
            whole_payload=False,
        )

    def init(self, config):
        pass


class Filter(exports.Filter):
    def hides(self):
        return [Hidden("SALES", ["/lead/email"]), Hidden("VIEWER", ["/lead/email", "/lead/phone"])]

    def filter(self, event, roles):
        fields = {field.pointer: json.loads(field.json) for field in event.fields}
        large = (fields.get("/lead/valueCents") or 0) > 5_000_000
        internal = (fields.get("/lead/email") or "").endswith("@example.com")
        return [Verdict(role, Audience_Everyone(), edits(role, large, internal)) for role in roles]


def edits(role, large, internal):
    if role == "SALES" and large and not internal:
        return [Edit_Mask(Masking("/lead/email", "***"))]
    if role == "VIEWER" and not internal:
        return [Edit_Remove("/lead/email"), Edit_Remove("/lead/phone")]
    return []

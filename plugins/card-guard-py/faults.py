"""Writes uncaught exceptions to the server's log.

Without this an exception ends the call and the log says no more than `unreachable`: the built plugin has no standard
streams to print to. The last error logged in a call is what the host shows as the reason of its failure.
"""

import sys
from os.path import basename
from types import TracebackType

from wit_world.imports import host


def log_them() -> None:
    sys.excepthook = _log


def _log(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    # Not with the module `traceback`, which would open source files to quote them.
    places = []
    while traceback:
        code = traceback.tb_frame.f_code
        places.append(f"{basename(code.co_filename)}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    host.log("error", f"{kind.__name__}: {error} ({', '.join(reversed(places))})")

"""A plugin for pytest that lets llama.cpp's server tests run against llama-svf; scripts/llama_server_suite.sh loads it.

It names a local model in place of the one to download, and expects the tests listed in suite.txt to fail: pytest reports
one that passes all the same as failed.
"""

import os
from pathlib import Path

import pytest
import utils

MODEL = os.environ["SVF_SUITE_MODEL"]
LIST = Path(os.environ["SVF_SUITE_LIST"])

start = utils.ServerProcess.start


def start_local(server, *arguments, **options):
    if "stories260K" in f"{server.model_hf_repo} {server.model_hf_file}":
        server.model_hf_repo = server.model_hf_file = None
        server.model_file = MODEL
        server.offline = False
    return start(server, *arguments, **options)


utils.ServerProcess.start = start_local
# It would download every model that some test knows.
utils.ServerPreset.load_all = staticmethod(lambda: None)


def expected():
    """The reason by test: lines of comment above tests, paragraph by paragraph."""
    reasons, reason = {}, []
    for line in LIST.read_text().splitlines():
        if line.startswith("#"):
            reason.append(line.lstrip("# "))
        elif line:
            reasons[line] = " ".join(reason)
        else:
            reason = []
    return reasons


def pytest_collection_modifyitems(config, items):
    reasons = expected()
    for item in items:
        if reason := reasons.get(item.nodeid):
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    files = {item.nodeid.split("::")[0] for item in items}
    found = {item.nodeid for item in items}
    unknown = [name for name in reasons if name.split("::")[0] in files and name not in found]
    # Where only some tests were asked for, others are not there.
    if unknown and not config.option.keyword and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"{LIST.name} lists tests that do not exist: {', '.join(unknown)}")

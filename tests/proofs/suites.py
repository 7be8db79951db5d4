"""Test suites of their own, run by a pytest of their own, as a reader's project has them."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.proofs.harness import Block

LIMIT = 60.0  # seconds for a suite
_ENDED = re.compile(r"^(PASSED|FAILED|ERROR) (?:\S+?::)?(\S+)", re.MULTILINE)
_OF_THIS_RUN = {"PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "PYTEST_PLUGINS", "PYTEST_VERSION"}


@dataclass(frozen=True, slots=True)
class Ran:
    """How a suite ended: the outcomes by the names of its tests, and all that pytest printed."""

    status: int
    tests: dict[str, str]
    output: str

    @property
    def outcomes(self) -> list[str]:
        return list(self.tests.values())


def given(block: Block, **names: str) -> str:
    """The code of a block as a file: what it is given comes first, as text of Python."""
    assert set(names) == set(block.given), f"{block.path} says it is given {block.given}"
    return "".join(f"{name} = {code}\n" for name, code in names.items()) + block.code


def run_suite(
    folder: Path,
    files: Mapping[str, str],
    *options: str,
    plugin: str = "pytest_asyncio.plugin",
    env: Mapping[str, str] | None = None,
) -> Ran:
    """Write `files` into `folder` and run pytest there with one plugin, and no configuration but
    theirs; `env` adds to this process's environment."""
    for name, code in {"pytest.ini": "[pytest]\n", **files}.items():
        (folder / name).write_text(code, "utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", plugin]
    inherited = {name: value for name, value in os.environ.items() if name not in _OF_THIS_RUN}
    # Wide, since pytest cuts its summary to the width of the terminal.
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "400", "NO_COLOR": "1"}
    told = subprocess.run(
        [*command, "-q", "--tb=short", "-rA", *options],
        cwd=folder,
        env={**inherited, **own, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    output = told.stdout + told.stderr
    _, _, summary = output.rpartition("short test summary info")
    return Ran(told.returncode, {name: how for how, name in _ENDED.findall(summary)}, output)


@asynccontextmanager
async def one_test(module: Any, *wanted: str) -> AsyncIterator[dict[str, Any]]:
    """What a test is given that asks for `wanted`, the async fixtures of a block, by their names.

    As in pytest, those with `autouse` are entered first, each after what it asks for itself.
    """
    values: dict[str, Any] = {}
    automatic = [
        name
        for name, each in vars(module).items()
        # pytest has no public way to ask for it.
        if getattr(getattr(each, "_fixture_function_marker", None), "autouse", False)
    ]
    async with AsyncExitStack() as stack:

        async def enter(name: str) -> Any:
            if name not in values:
                function = inspect.unwrap(getattr(module, name))
                assert function is not getattr(module, name), f"{name} is no fixture"
                given = {each: await enter(each) for each in inspect.signature(function).parameters}
                made = asynccontextmanager(function)(**given)
                values[name] = await stack.enter_async_context(made)
            return values[name]

        for name in (*automatic, *wanted):
            await enter(name)
        yield values

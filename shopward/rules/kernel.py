"""Generated rule kernels as files beside the window kernels: numba caches compiled code per file."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numba

from shopward.features.compile import Background, cache_folder, is_compiled, load


class RuleKernel:
    """The compiled function `fire` of a rules module: there at once, now on demand, or as soon as a background process made it.

    mode   as of `Windows`: "compiled" compiles or loads now, "auto" starts a background process, "interpreted" never compiles
    """

    def __init__(self, source: str, mode: str):
        self.path = None if mode == "interpreted" else _written(source)
        self.fire: Callable | None = None
        self._background: Background | None = None
        if self.path and (mode == "compiled" or is_compiled(self.path)):
            self.compile()
        elif self.path:
            self._background = Background([self.path])

    def compile(self) -> None:
        """Compile now, or load what is already compiled."""
        if self.fire is None and self.path:
            self.fire = load(self.path).fire

    def ready(self) -> Callable | None:
        """`fire`, if it is compiled by now."""
        if self._background and self._background.done():
            self._background = None
            self.compile()
        return self.fire


def _written(source: str) -> Path:
    digest = sha256(f"{numba.__version__}\n{source}".encode()).hexdigest()[:16]
    path = cache_folder() / f"r_{digest}.py"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.tmp")
        part.write_text(source, encoding="utf-8")
        part.replace(path)
    return path

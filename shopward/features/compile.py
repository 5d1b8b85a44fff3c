"""Compiled kernels, kept in a folder: written once per kernel text, loaded in milliseconds ever after.

A kernel's file name carries a hash of everything it depends on, so a stale one is never used and the folder may be deleted at any
time. New kernels are compiled by a process of their own (`python -m shopward.features.compile FILE ...`) while decisions already
run interpreted.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from shopward.features.codegen import Kernel

KEPT = 2000  # kernels in a folder, about 200 MB
POLITE = 10  # how far the priority of compiling lies below that of deciding
WORKERS = 2  # compile processes at once
HEAD = '''"""The kernel `{name}`: generated, safe to delete."""

from math import sqrt  # noqa: F401

from shopward.expr.kernel import *  # noqa: F403
from shopward.features.lib_jit import *  # noqa: F403
from shopward.features.lib_jit import NAN, stage

nan = NAN


'''
PRIVATE = 0o700


def cache_folder(chosen: Path | str | None = None) -> Path:
    """Where kernels are kept: the folder given, $SHOPWARD_CACHE, the user's cache folder, or a temporary one."""
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    wanted = [chosen, os.environ.get("SHOPWARD_CACHE"), Path(home) / "shopward" / "kernels"]
    for folder in wanted:
        if folder and _usable(Path(folder)):
            return Path(folder)
    return _temporary_folder()


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=PRIVATE)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


@functools.cache
def _temporary_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="shopward-kernels-"))


@functools.cache
def _foundation() -> str:
    """A hash of what every kernel builds on: our own steps, the expression functions, numba."""
    from importlib.metadata import version

    here = Path(__file__).parent
    parts = [here / "lib.py", here / "lib_jit.py", here.parent / "expr" / "kernel.py"]
    digest = hashlib.sha256(version("numba").encode())
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()


def kernel_file(kernel: Kernel, folder: Path) -> Path:
    """The file of a kernel, written if it is not there yet."""
    digest = hashlib.sha256((_foundation() + kernel.text).encode()).hexdigest()[:16]
    path = folder / f"k_{digest}.py"
    if not path.exists():
        scratch = path.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(HEAD.format(name=kernel.name) + kernel.text + "\n\nentry = stage(run)\n", encoding="utf-8")
        scratch.replace(path)
        _prune(folder)
    return path


def _prune(folder: Path) -> None:
    """Keep the folder bounded: of more than KEPT kernels, the ones written first go."""
    kernels = sorted(folder.glob("k_*.py"), key=lambda path: path.stat().st_mtime)
    for path in kernels[:-KEPT]:
        for part in (path, path.with_suffix(".done"), *folder.glob(f"__pycache__/{path.stem}.*")):
            part.unlink(missing_ok=True)


def is_compiled(path: Path) -> bool:
    """Whether loading this kernel takes no compiling on this machine (as far as a look into the folder can tell)."""
    return path.with_suffix(".done").exists()


@functools.lru_cache(maxsize=4096)
def load(path: Path) -> ModuleType:
    """The compiled kernel (compiling it now if needed); `.entry.address` is where it can be called."""
    spec = importlib.util.spec_from_file_location(f"shopward_kernel_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load the kernel {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    path.with_suffix(".done").touch()
    return module


class Background:
    """Kernels being compiled by other processes."""

    def __init__(self, paths: list[Path]):
        self.paths = paths
        share = [paths[i::WORKERS] for i in range(WORKERS)]
        self.processes = [self._start(part) for part in share if part]

    def _start(self, paths: list[Path]) -> subprocess.Popen:
        command = [sys.executable, "-m", "shopward.features.compile", *map(str, paths)]
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def done(self) -> bool:
        return all(process.poll() is not None for process in self.processes)

    def failed(self) -> str:
        """What went wrong, if anything did (the last line of each process that failed)."""
        wrong = [p.stderr.read().decode(errors="replace").strip() for p in self.processes if p.returncode and p.stderr]
        return "; ".join(text.rsplit("\n", 1)[-1] or "killed" for text in wrong)

    def wait(self) -> None:
        for process in self.processes:
            process.wait()

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
                process.wait()


def main(paths: list[str]) -> None:
    """Compile kernels, and the ready-made stages all of them run beside; whoever decides meanwhile goes first."""
    from shopward.features import lib_jit

    if hasattr(os, "nice"):
        os.nice(POLITE)
    for path in paths:
        load(Path(path))
    for name in lib_jit.STAGES:
        lib_jit.stage_address(name)


if __name__ == "__main__":
    main(sys.argv[1:])

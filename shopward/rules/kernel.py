"""Generated kernels as files: numba caches compiled code per file, so the text is written once under the name of its hash."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numba


def cache_folder() -> Path:
    """Where kernels live: $SHOPWARD_CACHE, else ~/.cache/shopward, else a temporary folder when neither can be written."""
    wished = Path(os.environ.get("SHOPWARD_CACHE") or Path.home() / ".cache" / "shopward")
    folder = wished / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="shopward-kernels-"))


def load(source: str) -> Callable:
    """The compiled function `fire` of a generated rules module."""
    name = f"rules_{sha256(f'{source}{numba.__version__}'.encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name].fire
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        part = path.with_name(f".{name}.{os.getpid()}")
        part.write_text(source)
        part.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.fire

"""Name the module that a function or class comes from, so that functions of the same name in two scripts differ.

A module in a package is named by its import name. A script, or a module beside one, is named by the path of its file relative
to the store, because its import name is not unique: see :mod:`.identity`.
"""

from __future__ import annotations

import os
import sysconfig
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_INSTALLED = tuple(
    os.path.realpath(sysconfig.get_paths()[name]) + os.sep for name in ("purelib", "platlib", "stdlib", "platstdlib")
)


def module_name(variables: Mapping[str, Any], name: str, location: str) -> str:
    """Return a module's name, or its file if the name does not say which module it is.

    Args:
        variables: The module's variables.
        name: Its name.
        location: Where the store is.
    """
    spec = variables.get("__spec__")
    if name in {"__main__", "__mp_main__"} and spec is not None and spec.name not in {"__main__", "__mp_main__"}:
        name = spec.name  # python -m
    file = variables.get("__file__", _notebook(variables) if name == "__main__" else None)
    if not isinstance(file, str) or "." in name:
        return name
    try:
        file = os.path.realpath(file)
    except FileNotFoundError:  # it is a relative one, and the working directory is gone
        return file
    if file.startswith(_INSTALLED) or os.path.basename(file) == "__init__.py":
        return name
    return os.path.relpath(file, os.path.realpath(location)) if os.path.isabs(location) else file


def _notebook(variables: Mapping[str, Any]) -> object:
    """Return the file of the notebook that this runs in; None if there is none, or it is not known."""
    session = os.environ.get("JPY_SESSION_NAME", "")
    return variables.get("__vsc_ipynb_file__", session if session.endswith(".ipynb") else None)

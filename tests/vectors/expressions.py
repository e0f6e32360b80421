"""What the expressions in ``values-1.json`` stand for."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import numpy as np

_NAMES = {
    each.__name__: each for each in (Decimal, PosixPath, PurePosixPath, PureWindowsPath, UUID, SafeUUID, ZoneInfo, np, struct)
} | {"dt": dt}


def evaluate(expression: str) -> Any:
    """Return the value of an expression of a committed file."""
    return eval(expression, _NAMES)

"""What the expressions in ``values-1.json`` to ``values-3.json`` stand for."""

from __future__ import annotations

import contextlib
import datetime as dt
import struct
from decimal import Decimal
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID, SafeUUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl

_NAMES = {
    each.__name__: each
    for each in (Decimal, PosixPath, PurePosixPath, PureWindowsPath, UUID, SafeUUID, ZoneInfo, np, pd, pl, struct)
} | {"dt": dt}
with contextlib.suppress(ImportError):  # too large to be a dependency of the tests
    import torch

    _NAMES["torch"] = torch


def evaluate(expression: str) -> Any:
    """Return the value of an expression of a committed file."""
    return eval(expression, _NAMES)

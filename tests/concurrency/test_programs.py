"""Whatever several processes do in one store at once, killed or not: the record of it is a correct one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from tests.concurrency.checker import check
from tests.concurrency.record import as_schedule
from tests.strategies import programs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.concurrency.program import Program
    from tests.concurrency.record import Record

_failed: list[bool] = []
TRIES_ONCE_IT_FAILED = 5
"""Once a program failed, each one is run this often: what depends on timing would not shrink otherwise."""


SETTINGS = settings(
    max_examples=settings().max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@SETTINGS
@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
@given(program=programs())
def test_whatever_concurrent_writers_do_the_record_is_correct(
    run: Callable[[Program, str], Record], scheme: str, program: Program
) -> None:
    for _ in range(TRIES_ONCE_IT_FAILED if _failed else 1):
        record = run(program, scheme)
        problems = check(record)
        if problems:
            _failed.append(True)
        assert not problems, "\n".join(["", *problems, "", as_schedule(record)])


@settings(SETTINGS, max_examples=settings().max_examples // 10)
@pytest.mark.parametrize("scheme", ["postgresql://", "s3://"])
@given(program=programs())
def test_whatever_concurrent_writers_do_on_a_server_the_record_is_correct(
    run: Callable[[Program, str], Record], scheme: str, program: Program
) -> None:
    if scheme == "s3://":
        program = replace(program, opened_before=False)  # its library does not survive a fork
    record = run(program, scheme)
    problems = check(record)
    assert not problems, "\n".join(["", *problems, "", as_schedule(record)])

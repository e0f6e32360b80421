"""Names of frameworks, which are any text, become stage names that differ as they do."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import example, given
from hypothesis import strategies as st

from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.integrations._names import stage_name

parts = st.lists(
    st.text(st.characters(codec=None, exclude_categories=[]), max_size=80) | st.text("%/#25F", max_size=70), max_size=3
)


@given(parts, parts)
@example(["a/b"], ["a", "b"])
@example(["%2F"], ["/"])
@example(["a", ""], ["a"])
@example([f"%#{sha256(b'x' * 67).hexdigest()}"], ["x" * 67])
@example(["\ud800"], ["\ud801"])
def test_different_names_are_different_stages_and_each_is_valid(one: list[str], other: list[str]) -> None:
    assert (stage_name("p", *one) == stage_name("p", *other)) == (one == other)
    assert validate(stage_name("p" * 50, *one))


def test_names_that_were_given_once_are_given_for_ever() -> None:
    assert stage_name("openai-agents", "user 42") == "openai-agents/user 42"
    assert stage_name("p", "50 %/é", "") == "p/50 %25%2Fé/"
    assert stage_name("p", "x" * 66) == f"p/{'x' * 66}"
    assert stage_name("p", "x" * 67) == f"p/%#{sha256(b'x' * 67).hexdigest()}"

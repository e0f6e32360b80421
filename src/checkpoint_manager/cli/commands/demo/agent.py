"""An agent that is killed, asks a person, waits for the answer, and is taken back in time to another answer.

It is a graph of LangGraph that reviews the package json of Python, one file a step, and asks before it publishes what it found.
Its thread is kept by ``CheckpointSaver``: encrypted, and authenticated before anything is deserialised. After each step the
graph can be taken up again by another process, today or in a month.
"""

from __future__ import annotations

import ast
import json
import operator
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from checkpoint_manager import CheckpointManager
from checkpoint_manager.integrations.langgraph import CheckpointSaver

CRASHES = "--crash" in sys.argv
FILES = sorted(str(path) for path in Path(json.__file__).parent.glob("*.py"))
THREAD: Any = {"configurable": {"thread_id": "review of json"}}


class State(TypedDict):
    """What the agent knows: which files it has read, what it found, and what was decided."""

    read: Annotated[list[str], operator.add]
    found: Annotated[list[str], operator.add]
    decision: str


def review(state: State) -> dict[str, list[str]]:
    """Read the next file, and find functions without a docstring."""
    path = FILES[len(state["read"])]
    tree = ast.parse(Path(path).read_bytes())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    name = Path(path).name
    found = [f"{name}:{each.lineno} {each.name}" for each in functions if ast.get_docstring(each) is None]
    print(f"  review     {name}: {len(found)} of {len(functions)} have no docstring", flush=True)
    if CRASHES and len(state["read"]) == 2:
        print("  the agent is killed", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return {"read": [name], "found": found}


def ask(state: State) -> dict[str, str]:
    """Ask a person. The graph stops here until someone answers."""
    return {"decision": interrupt(f"publish {len(state['found'])} findings in {len(state['read'])} files?")}


def publish(state: State) -> dict[str, str]:
    """Write the report, if that was the decision."""
    if state["decision"] == "yes":
        Path("report.txt").write_text("\n".join(state["found"]), encoding="utf-8")
    return {}


def graph(saver: CheckpointSaver) -> Any:
    """Return the graph: review until all files are read, ask, publish."""
    builder = StateGraph(State)
    builder.add_node("review", review)
    builder.add_node("ask", ask)
    builder.add_node("publish", publish)
    builder.add_edge(START, "review")
    builder.add_conditional_edges("review", lambda state: "review" if len(state["read"]) < len(FILES) else "ask")
    builder.add_edge("ask", "publish")
    builder.add_edge("publish", END)
    return builder.compile(checkpointer=saver)


def main() -> None:
    """Let the agent work, answer it, and go back to before the answer."""
    saver = CheckpointSaver(CheckpointManager())  # the store that CHECKPOINT_MANAGER_STORE names
    agent = graph(saver)
    before = agent.get_state(THREAD).values.get("read", [])
    if before:
        print(f"  goes on    after {', '.join(before)}", flush=True)
    begin = None if before else {"read": [], "found": [], "decision": ""}
    waits = agent.invoke(begin, THREAD, durability="sync")  # each step is saved before the next one begins
    print(f"  asks       {waits['__interrupt__'][0].value}")
    ended = agent.invoke(Command(resume="yes"), THREAD)
    lines = Path("report.txt").read_text(encoding="utf-8").splitlines()
    print(f"  answer     {ended['decision']}: report.txt has {len(lines)} lines")
    print("and back in time, to the moment when it asked")
    Path("report.txt").unlink()
    moment = next(state for state in agent.get_state_history(THREAD) if state.next == ("ask",))
    waits = agent.invoke(None, moment.config)
    print(f"  asks       {waits['__interrupt__'][0].value}")
    ended = agent.invoke(Command(resume="no"), THREAD)
    print(f"  answer     {ended['decision']}: report.txt is there: {Path('report.txt').exists()}")
    print(f"  history    {sum(1 for _ in agent.get_state_history(THREAD))} states, of both answers")


if __name__ == "__main__":
    main()

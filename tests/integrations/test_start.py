"""What the adapters cost those who don't use them: nothing."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_library_imports_no_integration_and_no_framework() -> None:
    program = "from checkpoint_manager import *; import sys; print(*{name for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert not [name for name in loaded if name.startswith("checkpoint_manager.integrations")]
    assert not {
        "langgraph",
        "langchain_core",
        "pydantic",
        "agent_framework",
        "pydantic_ai",
        "key_value",
        "agents",
        "prefect",
        "joblib",
    } & {name.partition(".")[0] for name in loaded}

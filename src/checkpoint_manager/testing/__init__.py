"""Tests for backends: the executable contract, for pytest.

:mod:`checkpoint_manager.testing.strategies` has what property tests draw: stage names, and data that a checkpoint keeps
exactly. It needs Hypothesis and is not imported here.
"""

from checkpoint_manager.testing.backend_contract import BackendContract, MaintenanceContract, read_all

__all__ = ["BackendContract", "MaintenanceContract", "read_all"]

"""What a backend is tested with: the executable contract."""

from checkpoint_manager.testing.backend_contract import BackendContract, read_all

__all__ = ["BackendContract", "read_all"]

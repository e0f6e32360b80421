"""The backend in a bucket of an object store; needs the extra ``s3``."""

from checkpoint_manager.backends.object_store.backend import ObjectStoreBackend

__all__ = ["ObjectStoreBackend"]

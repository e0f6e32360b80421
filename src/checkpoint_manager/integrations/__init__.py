"""Adapters: each module keeps the state of one framework in a store, and needs the extra of its name.

Nothing else of the library imports them. They read and write stores through the public interface alone.
"""

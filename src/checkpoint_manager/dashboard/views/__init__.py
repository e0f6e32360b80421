"""The pages. Each module makes some of them, as functions from a :class:`~.call.Call` to a response."""

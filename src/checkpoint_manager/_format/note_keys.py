"""The keys of a version's metadata that are the library's; :mod:`checkpoint_manager._format.notes` says what they hold."""

NOTE = "@stage"
PROGRESS = "@progress"
FAILURE = "@failure"
INPUTS = "@inputs"
RUN = "@run"
DELETED = "@deleted"
DURABLE = "@durable"

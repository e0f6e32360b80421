"""Looking at everything that a user may have set up wrongly, and saying what to do about it."""

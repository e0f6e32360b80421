"""Functions that resume: what they were called with, whether they need to run, and what came of it."""

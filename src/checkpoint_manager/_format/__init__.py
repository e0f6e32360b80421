"""Bytes to bytes: what a checkpoint looks like sealed, and how it is opened. Pure; no file, no clock, no network."""

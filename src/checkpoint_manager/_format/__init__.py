"""The formats: what is stored, byte by byte, and how it is sealed and opened. Pure; no file, no clock, no network."""

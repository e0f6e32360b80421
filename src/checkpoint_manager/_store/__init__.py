"""An opened store: its sealed versions and records, its keyring, its history, and what this user has seen of it."""

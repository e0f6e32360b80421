"""Where the bytes are kept: by stage and version, without any notion of what they mean. No cryptography."""

"""Everything that takes part: the library, the floors under it, and what people use today."""

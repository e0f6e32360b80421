"""How long the library takes, beside the least that could be taken and beside what people use today: ``python -m benchmarks``.

Everything here measures; nothing here is imported by the library or shipped with it. Start at :mod:`benchmarks.__main__`.
"""

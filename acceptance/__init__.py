"""Proof of the long claims: one module a claim, each with a `main()` that prints figures and raises on failure.

These may take hours and are no part of `make test`. `python -m acceptance` runs them and keeps what they print
in docs/results/.
"""

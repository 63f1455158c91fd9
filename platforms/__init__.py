"""How guest code runs: address spaces and threads of guests, and why they stopped. Knows nothing of Linux semantics.

Imports `protocol` only. The Sentry is the one that uses it.
"""

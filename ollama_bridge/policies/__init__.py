"""Policies: each a backend that holds a backend, each written once for all surfaces and providers.

Their order stands in `gateway.py` and nowhere else.
"""

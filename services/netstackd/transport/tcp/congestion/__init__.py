"""Congestion control: one algorithm a file behind `base.Controller`, found by name in `registry`."""

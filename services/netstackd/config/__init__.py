"""The configuration: `model.py` its values, `load.py` from TOML, `diff.py` what changed, `presets.py` ready-made
ones.
"""

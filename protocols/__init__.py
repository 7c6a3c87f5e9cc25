"""Evaluation protocols: one file per protocol (``protocols.base.Protocol`` is the contract)."""

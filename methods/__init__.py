"""Methods: one file per method over the shared blocks (``methods.base.Method`` is the contract)."""

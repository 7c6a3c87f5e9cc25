"""The encoder zoo: one file per encoder, one contract (``encoders.base.Encoder``)."""

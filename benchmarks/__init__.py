"""Speed and memory measurements, run by hand: ``python -m benchmarks.encoder`` and so on."""

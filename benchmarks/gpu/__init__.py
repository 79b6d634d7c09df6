"""What benchmarks/gpu.py runs on a machine with a GPU: a file for each stage, and what carries, runs and shows them."""

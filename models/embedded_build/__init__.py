"""The recipe of the embedded model and tasks: WordNet 3.0 -> tasks, tokenizer, pretraining, weights.

Development only (PyTorch and transformers are allowed here); nothing that ships imports it.
Run as modules from `models/`, in the order of README.md.
"""

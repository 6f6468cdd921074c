"""Processor work: kernels that merge partial states, and the worker processes that run them."""

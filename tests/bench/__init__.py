"""Benchmarks, run by scripts/bench; every module here but the harness is one."""

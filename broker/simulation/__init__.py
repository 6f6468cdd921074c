"""The admission core on a virtual clock: models of databases and clients, scenarios, rivals, invariants and gates.

Nothing of this is in the path of a request; the command line, and benchmarks, import it.
"""

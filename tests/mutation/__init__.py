"""Mutation testing of the admission core: small mistakes are made on purpose, and the tests have to notice."""

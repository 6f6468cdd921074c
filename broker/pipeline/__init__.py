"""The request path, one stage per file; the recipes list the stacks."""

"""Durable jobs: submission, claims under a lease and a fence, progress for watchers."""

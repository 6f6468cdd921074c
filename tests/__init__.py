"""Tests: unit/ mirrors broker/, integration/ needs PostgreSQL, rpc/ a real channel, bench/ gives figures."""

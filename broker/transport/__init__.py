"""The gRPC edge: converts, calls, converts back; the only home of gRPC and the stubs."""

"""A client for the benchmark ``deadlines``: asks a slow question, says so on its output, and waits to be killed."""

from __future__ import annotations

import sys

import grpc

from querybroker.v1 import query_pb2, query_service_pb2
from querybroker.v1.query_service_pb2_grpc import QueryServiceStub


def main() -> None:
    """Ask."""
    query = query_pb2.Query(dataset="slow", measures=["rows"], dimensions=["note"])
    with grpc.insecure_channel(sys.argv[1]) as channel:
        future = QueryServiceStub(channel).Dashboard.future(
            query_service_pb2.DashboardRequest(panels=[query_service_pb2.Panel(query=query)])
        )
        print("asked", flush=True)
        future.result()


if __name__ == "__main__":
    main()

"""An independent oracle: the answers that the public contract asks for, computed by Polars from the CSV files.

Written from the comments of the protos alone. It shares no code with the broker, neither its time grids nor its plans,
so that a mistake there cannot hide in here; questions and answers are the protobuf messages of the contract.
"""

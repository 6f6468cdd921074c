"""The services of the contract: decode, call the application, encode."""

"""The command line, one module per group of commands. Modules are imported when their command runs, not before."""


def main() -> int:
    """Run the command line with the arguments of the process; returns its exit code (`broker.cli.exits`)."""
    from broker.cli.program import run

    return run()

"""The command tree."""


def main() -> None:
    """Run the command line."""

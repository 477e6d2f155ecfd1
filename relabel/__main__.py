"""``python -m relabel`` is the command."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; Ctrl-C while it is being imported says what it says later."""
    try:
        from relabel.cli.app import main as command
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()

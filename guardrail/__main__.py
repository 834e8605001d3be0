"""`python -m guardrail` is the command line."""

from guardrail.cli import app

if __name__ == "__main__":
    app()

"""`python -m guardrail` is the command line."""

from guardrail.cli.main import app

if __name__ == "__main__":
    app()

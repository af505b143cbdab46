"""`python -m ductaflow ...`: the command `ductaflow`, of the interpreter that is named."""

from ductaflow.cli.app import main

if __name__ == "__main__":
    main(prog_name="ductaflow")

"""`python -m shopward` is the command line."""

from shopward.cli import main

if __name__ == "__main__":
    main()

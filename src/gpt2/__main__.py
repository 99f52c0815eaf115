"""`python -m gpt2` is the command `gpt2`, which is what torchrun needs."""

from gpt2.cli import main

if __name__ == "__main__":
    main()

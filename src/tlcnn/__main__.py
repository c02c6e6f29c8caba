"""`python -m tlcnn` is the command `tlcnn`."""

from tlcnn.cli.main import main

if __name__ == "__main__":
    main()

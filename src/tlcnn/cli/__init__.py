"""The command `tlcnn`, one file a command."""

"""One module per command: its options and help. What it does is imported when it runs, so that help is quick."""

"""What differs between two versions of a value or a file, for judging and for diffs."""

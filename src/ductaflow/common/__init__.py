"""What every other package uses: errors, text, files, paths, and questions to the operating system."""

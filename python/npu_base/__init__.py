"""What all packages share: the root of errors, and the writing of files. Needs the standard library alone."""

"""Many runs: which may start, in which order, where, and how people see them."""

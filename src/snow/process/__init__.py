"""The process itself: memory, threads, random numbers, signals and subprocesses."""

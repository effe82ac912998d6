"""The process that everything runs in: memory, threads, random numbers, signals, processes of its own."""

"""The test bench: how fast this machine trains, with how much memory, and where the time goes."""

"""Everything that runs on a Ray cluster: training, trials of a sweep, and a service in many processes."""

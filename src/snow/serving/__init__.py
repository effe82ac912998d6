"""A hub as a service: HTTP in front, one thread with the networks behind, batches between them.

`bodies` and `pictures` turn a request into tensors, `batcher` puts those of many requests into one pass, `worker` is
the pass, `watcher` sees tasks come and go, `service` holds these together, and `app` is the HTTP side of it.
"""

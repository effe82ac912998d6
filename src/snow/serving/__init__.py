"""Serving: a hub over HTTP. HTTP and JSON in front, one thread with the networks behind, batches between them.

A request for predictions goes through these modules in this order:

- `predict_routes`: the HTTP path, its deadline and its response.
- `requests`: where an uploaded picture and the other parameters are checked.
- `decoders`, `decoding`: pictures are decoded in processes that may be lost.
- `service`: decodes pictures, submits them, and collects the predictions.
- `batching`: where a batch is cut.
- `worker`: the pass, through `snow.inference.Predictor`.

`fairness` shares queue and memory between clients, `interruption` ends requests that nobody waits for, `connections`
bounds what a connection may do, and `access` says who may change tasks.

`task_routes` lists, describes, adds and removes tasks; `uploads` is where an uploaded task is checked, `archives` and
`forms` unpack it. `app` puts the routes together and `server` runs them.
"""

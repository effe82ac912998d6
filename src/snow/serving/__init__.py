"""Serving: a hub over HTTP. HTTP and JSON in front, one thread with the networks behind, batches between them.

A request for predictions goes through these modules in this order:

- `predict_routes`: the HTTP path and its deadline.
- `requests`: where the parameters and the number and size of the pictures are checked.
- `decoders`: pictures are decoded in processes that may be lost. `decoding` runs there, and `snow.data.decode` checks
  the content of a picture: its format, its pixels, its scans.
- `service`: decodes pictures, submits them, and collects the predictions.
- `batching`: where a batch is cut.
- `worker`: the pass, through `snow.inference.Predictor`.
- `responses`: the JSON of the predictions, and its bound.

`fairness` shares queue and memory between clients, `interruption` ends requests that nobody waits for, `connections`
bounds what a connection may do, and `access` says who may change tasks.

`task_routes` lists, describes, adds and removes tasks; `uploads` is where the files of an uploaded task are checked,
and `archives` and `forms` unpack them. Whether the task fits the source is checked where it is added: `Service.add`
calls `Hub.copy`, which calls `snow.hub.verification.write_record`.

`app` puts the routes together and `server` runs them.
"""

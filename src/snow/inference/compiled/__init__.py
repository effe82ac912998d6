"""Deltas as one C function each pass: `delta.c`, compiled on the machine that runs it, and what calls it.

`library` compiles and loads, `program` lists the layers of a plan, `weights` lays out the tensors of a task.
"""

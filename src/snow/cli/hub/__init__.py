"""`snow hub`: look into a hub, and change what is in it."""

from snow.cli.hub.change import add, init, remove, replace
from snow.cli.hub.compare import diff, verify
from snow.cli.hub.history import log, rollback
from snow.cli.hub.look import list_tasks, show
from snow.cli.hub.place import app

__all__ = ["add", "app", "diff", "init", "list_tasks", "log", "remove", "replace", "rollback", "show", "verify"]

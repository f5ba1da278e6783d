"""The fitted bundle and the way to it: data opened, a model trained, rows scored, items recommended."""

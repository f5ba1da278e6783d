"""From the blocks of a pipeline file to one module: a directed acyclic graph of components over feature groups."""

"""From files to batches: reading, encoding, splitting, batching. Columns stay columns on the whole way."""

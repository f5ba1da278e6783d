"""Names of the features in a batch of interactions; see `core/batch.py` for the shapes.

| name          | kind   | values                                                                                |
|---------------|--------|---------------------------------------------------------------------------------------|
| `user`        | Dense  | (B,) user numbers, -1 for somebody whom training never saw                            |
| `history`     | Jagged | (S,) item numbers, oldest first                                                       |
| `target`      | Dense  | (B,) the item to predict; or Jagged with the offsets of `history`: one for each step  |
| `seen`        | Jagged | item numbers of the user's training part, sorted, without repetition                  |
| `history/X`   | any    | context feature X, S rows: one for each step of all histories                         |
| `target/X`    | Dense  | context feature X of the interaction to predict                                       |
| `user/X`      | any    | side feature X of the user                                                            |
"""

from __future__ import annotations

USER, HISTORY, TARGET, SEEN = "user", "history", "target", "seen"
RATING = "rating"
"""Label of batches whose log has ratings."""

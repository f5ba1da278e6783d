"""What one reading of a file found."""

from __future__ import annotations

from dataclasses import dataclass, field

from intarsia.config.nodes import Node
from intarsia.config.suggest import Suggester
from intarsia.core.errors import Problem


@dataclass
class Report:
    """What one reading of a file found: errors, and remarks that are none."""

    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    suggester: Suggester = field(default_factory=Suggester)
    faulty: dict[int, Node] = field(default_factory=dict)

    def wrong(self, node: Node, path: str, message: str) -> None:
        """Notes an error at a node, once a node."""
        if id(node) not in self.faulty:
            self.faulty[id(node)] = node
            self.problems.append(Problem(node.where, path, message))

    def lacks(self, node: Node, path: str, message: str) -> None:
        """Notes an error of something that is not there; `node` is what should hold it."""
        self.problems.append(Problem(node.where, path, message))

    def note(self, node: Node, path: str, message: str) -> None:
        """Notes a remark at a node."""
        self.notices.append(str(Problem(node.where, path, message)))

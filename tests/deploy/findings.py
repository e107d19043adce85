"""What a check found: facts to print, and problems, which fail it."""

import subprocess
from pathlib import Path


class Findings:
    def __init__(self):
        self.facts = []
        self.problems = []

    def fact(self, text):
        self.facts.append(text)

    def problem(self, text):
        self.problems.append(text)

    def expect(self, holds, problem):
        """Notes the problem unless it holds; whether it does."""
        if not holds:
            self.problem(problem)
        return bool(holds)


def output_of(*command, cwd=None, stdin=None):
    """A command's exit code, and what it wrote to both streams, stripped."""
    ended = subprocess.run(
        [str(word) for word in command], cwd=cwd, input=stdin, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return ended.returncode, ended.stdout.strip()


def text_of(root, path):
    return (Path(root) / path).read_text(encoding="utf-8")

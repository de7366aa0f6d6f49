"""Every snippet of the manual is part of a file that is built and tested."""

import re
import unittest
from pathlib import Path

PYTHON = Path(__file__).parent.parent
COUNTER = PYTHON.parent.parent / "examples" / "counter-python"


class ReadmeTest(unittest.TestCase):
    def test_every_snippet_is_part_of_a_file(self) -> None:
        folders = [PYTHON / "examples", PYTHON / "template", COUNTER]
        files = [file.read_text() for folder in folders for file in folder.rglob("*") if file.suffix in (".py", ".toml")]
        snippets = re.findall(r"^```(?:python|sh)\n(.*?)^```", (PYTHON / "README.md").read_text(), re.M | re.S)
        self.assertGreater(len(snippets), 5)
        for snippet in snippets:
            with self.subTest(snippet=snippet[:60]):
                self.assertTrue(any(snippet.strip("\n") in file for file in files))

    def test_the_template_begins_with_the_counter(self) -> None:
        counter = (COUNTER / "app.py").read_text()
        template = (PYTHON / "template" / "src" / "app.py").read_text()
        self.assertEqual(template[: len(counter)], counter)

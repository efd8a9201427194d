"""The Python on the page for studios runs as it stands, block after block."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "games.md"


def test_blocks_of_the_page_run_in_order() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) >= 4

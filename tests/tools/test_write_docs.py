"""The generated documents in the repository are those that the code makes."""

import pytest

from tools.write_docs import GENERATED, ROOT


@pytest.mark.parametrize("path", GENERATED)
def test_a_generated_document_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text() == GENERATED[path](), "run `make docs`"

"""The bar: drawn in a terminal, told once in a log."""

import io
import sys

from planetlib.files.progress import progress_bar


def test_a_log_gets_one_line_and_a_terminal_a_bar_that_moves(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE")
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    drawn = {}
    for is_terminal in (False, True):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        monkeypatch.setattr(sys.stderr, "isatty", lambda is_terminal=is_terminal: is_terminal)
        with progress_bar(total=30, desc="going", mininterval=0) as bar:
            for number in range(30):
                bar.update()
                bar.set_postfix_str(f"at {number}", refresh=False)
                list(progress_bar(range(2), desc="inner", leave=False, mininterval=0))
        drawn[is_terminal] = sys.stderr.getvalue()
    assert drawn[False].count("going") == 1 and "30/30" in drawn[False] and "at 29" in drawn[False]
    assert "inner" not in drawn[False] and "inner" in drawn[True]
    assert drawn[True].count("going") > 10

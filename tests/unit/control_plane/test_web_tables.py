"""What a cell is told of its column, for a phone's cards."""

from control_plane.web.tables import labelled

HEAD = (
    '<thead><tr><th scope="col">Name</th>'
    '<th scope="col" colspan="2">Rate <span class="unseen">of all</span></th></tr></thead>'
)


def test_cells_are_told_their_columns() -> None:
    row = '<tbody><tr><th scope="row">a</th><td class="num">1</td><td>2</td></tr></tbody>'
    shown = labelled(f"<table>{HEAD}{row}</table>")
    assert '<td data-label="Rate" class="num">1</td><td data-label="Rate">2</td>' in shown
    assert '<th scope="row">a</th>' in shown


def test_a_cell_over_columns_moves_those_after_it_and_is_told_nothing() -> None:
    shown = labelled(
        f'<table>{HEAD}<tbody><tr><th colspan="2">All</th><td>1</td></tr><tr><td colspan="3">-</td></tr></table>'
    )
    assert '<td data-label="Rate">1</td>' in shown
    assert '<td colspan="3">-</td>' in shown


def test_what_heads_are_called_is_escaped() -> None:
    head = '<thead><tr><th><i class="x"></i>a &lt;b&gt; "c"</th></tr></thead>'
    assert 'data-label="a &lt;b&gt; &quot;c&quot;"' in labelled(f"<table>{head}<tr><td>1</td></tr></table>")


def test_tables_without_a_head_and_the_fleets_stay_as_they_are() -> None:
    for table in ("<table><tr><td>1</td></tr></table>", f'<table class="devices">{HEAD}<tr><td>1</td></tr></table>'):
        assert labelled(table) == table

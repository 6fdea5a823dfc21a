package cli

import "testing"

// The demand: a table is cut to a terminal's width, and says so; elsewhere it is whole.
func TestTableFitsATerminal(t *testing.T) {
	t.Parallel()
	rows := [][]string{{"NAME", "WHY", ""}, {"é", "it is long", "and longer"}, {"long name", "", ""}}
	for limit, lines := range map[int][]string{
		0:  {"NAME        WHY", "é           it is long   and longer", "long name"},
		15: {"NAME        WHY", "é           it…", "long name"},
		1:  {"…", "…", "…"},
	} {
		c := columns{limit: limit}
		c.fit(rows)
		for i, row := range rows {
			want(t, "a line", c.line(row), lines[i])
		}
	}
}

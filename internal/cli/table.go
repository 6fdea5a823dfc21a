package cli

import (
	"io"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// columns are those of a table: as wide as what stands in them, and two blanks more.
type columns struct {
	widths []int
	// limit is how wide a line may be; 0: as wide as it is.
	limit int
}

// columns are made wide enough for rows. On a terminal, lines are cut to its width; who
// reads a pipe or a file gets them whole.
func (r *run) columns(rows ...[]string) *columns {
	c := new(columns)
	if isTerminal(r.stdout) {
		c.limit, _ = screenSize(r.stdout)
	}
	c.fit(rows)
	return c
}

func (c *columns) fit(rows [][]string) {
	for _, row := range rows {
		for i, cell := range row {
			if i == len(c.widths) {
				c.widths = append(c.widths, 0)
			}
			c.widths[i] = max(c.widths[i], utf8.RuneCountInString(cell))
		}
	}
}

// line is one row.
func (c *columns) line(row []string) string {
	var s strings.Builder
	for i, cell := range row {
		s.WriteString(cell)
		if i < len(row)-1 {
			s.WriteString(strings.Repeat(" ", c.widths[i]-utf8.RuneCountInString(cell)+3))
		}
	}
	return cut(strings.TrimRight(s.String(), " "), c.limit)
}

// cut shortens a line to a width, and says so by its last character; 0 leaves it whole.
func cut(line string, width int) string {
	if runes := []rune(line); width > 0 && len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return line
}

// table prints rows under a header.
func (r *run) table(header []string, rows [][]string) {
	rows = append([][]string{header}, rows...)
	c := r.columns(rows...)
	for _, row := range rows {
		r.printf("%s\n", c.line(row))
	}
}

// screenSize is that of the terminal that w is.
func screenSize(w io.Writer) (width, height int) {
	if f, ok := w.(interface{ Fd() uintptr }); ok {
		if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
			return width, height
		}
	}
	return 80, 24
}

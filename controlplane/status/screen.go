package status

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Screen shows one document after the other in the same place of a terminal.
type Screen struct {
	Out io.Writer
	// Size returns how many columns and rows there are; 0 where that is not known.
	Size func() (columns, rows int)
}

// What tells a terminal what to do: ECMA-48, and xterm's alternate screen.
const (
	enter  = "\x1b[?1049h\x1b[?25l" // another screen, no cursor
	leave  = "\x1b[?25h\x1b[?1049l"
	home   = "\x1b[H"
	endRow = "\x1b[K"
	below  = "\x1b[J"
)

// Open leaves what is on the screen as it is, for Close.
func (s Screen) Open() error { return s.write(enter) }

// Close shows again what was there before Open.
func (s Screen) Close() error { return s.write(leave) }

// Show writes a first line, and below it as much of the document as there is room
// for. Without a document there is only the line.
func (s Screen) Show(first string, d *Document) error {
	text := bytes.NewBufferString(clean(first) + "\n\n")
	if d != nil {
		if err := d.Text(text); err != nil {
			return err
		}
	}
	columns, rows := s.Size()
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	if rows > 0 && len(lines) > rows {
		left := len(lines) - rows + 1
		lines = append(lines[:rows-1], fmt.Sprintf("… %d more lines", left))
	}
	var out strings.Builder
	out.WriteString(home)
	for i, line := range lines {
		if i > 0 {
			out.WriteString("\r\n")
		}
		out.WriteString(cut(line, columns) + endRow)
	}
	return s.write(out.String() + below)
}

func (s Screen) write(text string) error {
	_, err := io.WriteString(s.Out, text)
	return err
}

// cut returns the beginning of a line that has room in so many columns; 0 is no
// limit.
func cut(line string, columns int) string {
	if runes := []rune(line); columns > 0 && len(runes) > columns {
		return string(runes[:columns])
	}
	return line
}

package report

import (
	"bufio"
	"fmt"
	"io"
	"path/filepath"
	"strings"
)

// github writes workflow commands, which GitHub Actions shows as annotations.
func github(w io.Writer, r *Report, _ Options) error {
	b := bufio.NewWriter(w)
	for _, f := range r.Findings {
		fmt.Fprintf(b, "::%s file=%s", level(f.Severity), property(filepath.ToSlash(f.File)))
		if f.Line > 0 {
			fmt.Fprintf(b, ",line=%d,col=%d", f.Line, f.Column)
		}
		fmt.Fprintf(b, ",title=%s::%s\n", property(string(f.Rule)), data(f.Message()))
	}
	return b.Flush()
}

// data escapes what would end a command.
func data(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// property escapes what would end a property, too.
func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data(s))
}

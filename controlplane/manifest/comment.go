package manifest

import (
	"bytes"
	"regexp"
	"sort"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// commentMark begins comments that are meant for Tollgate.
const commentMark = "tollgate:"

// Comment is a comment of a manifest that begins with "tollgate:".
type Comment struct {
	File         string
	Line, Column int
	Text         string // without the "#" and the mark
	// From and To are the first and the last line that it is about: its own where
	// it follows something, else the next one that has anything, and where it
	// stands before all of a document, the whole document. To is less than From
	// where nothing follows.
	From, To int
}

var comment = regexp.MustCompile(`(?:^|[ \t])#[ \t]*` + commentMark + `([^\r\n]*)`)

// comments notes those of a chunk that was parsed into documents. Those of the
// preamble, above the chunk, are about all of it.
func (l *loader) comments(preamble, c chunk, documents []*yaml.Node) {
	lines := bytes.Split(c.text, []byte("\n"))
	has := func(i int) bool { return !isPreamble(lines[i]) && (i > 0 || !isBare(lines[i])) }
	first, last := 0, len(lines)-1
	for first < last && !has(first) {
		first++
	}
	for last > first && !has(last) {
		last--
	}
	for i, line := range bytes.Split(preamble.text, []byte("\n")) {
		if m := comment.FindSubmatchIndex(line); m != nil {
			l.comment(line, m, preamble.lineOffset+i+1, c.lineOffset+first+1, c.lineOffset+last+1)
		}
	}
	// next has, for each line, the first one after it that has anything.
	next := make([]int, len(lines))
	for i, n := len(lines)-1, len(lines); i >= 0; i-- {
		next[i] = n
		if has(i) {
			n = i
		}
	}
	var texts []span
	for _, n := range documents {
		texts = appendTexts(texts, lines, n)
	}
	for i, line := range lines {
		m := comment.FindSubmatchIndex(line)
		if m == nil || covers(texts, place{i, m[2]}) {
			continue
		}
		from, to := i, i
		switch {
		case has(i):
		case i < first:
			from, to = first, last
		default:
			from = next[i]
			if to = from; from == len(lines) {
				to--
			}
		}
		l.comment(line, m, c.lineOffset+i+1, c.lineOffset+from+1, c.lineOffset+to+1)
	}
}

// isBare reports whether a chunk's first line has nothing but its marker or a
// comment.
func isBare(line []byte) bool { return isPreamble(bytes.TrimPrefix(line, []byte("---"))) }

// comment notes the comment that m found in a line.
func (l *loader) comment(line []byte, m []int, at, from, to int) {
	column := utf8.RuneCount(line[:bytes.IndexByte(line[m[0]:], '#')+m[0]]) + 1
	notes := l.out.note()
	notes.comments = append(notes.comments, Comment{
		File: l.name, Line: at, Column: column, Text: string(bytes.TrimSpace(line[m[2]:m[3]])), From: from, To: to,
	})
}

// place is a line, and a byte in it, both from 0.
type place struct{ line, at int }

func (p place) before(q place) bool { return p.line < q.line || p.line == q.line && p.at < q.at }

// span is what a text takes up that may have something like a comment in it.
type span struct{ start, end place }

// covers reports whether p is in one of spans, which are in order.
func covers(spans []span, p place) bool {
	i := sort.Search(len(spans), func(i int) bool { return p.before(spans[i].start) })
	return i > 0 && p.before(spans[i-1].end)
}

// appendTexts appends the texts of n that are in quotes or in blocks.
func appendTexts(spans []span, lines [][]byte, n *yaml.Node) []span {
	for _, child := range n.Content {
		spans = appendTexts(spans, lines, child)
	}
	line := n.Line - 1
	if n.Kind != yaml.ScalarNode || line < 0 || line >= len(lines) {
		return spans
	}
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return append(spans, span{place{line + 1, 0}, place{blockEnd(lines, line) + 1, 0}})
	case n.Style&yaml.DoubleQuotedStyle != 0:
		return append(spans, quoted(lines, n, '"'))
	case n.Style&yaml.SingleQuotedStyle != 0:
		return append(spans, quoted(lines, n, '\''))
	}
	return spans
}

// blockEnd returns the last line of the block of text whose header is on
// lines[start].
func blockEnd(lines [][]byte, start int) int {
	indent, end := -1, start
	for i := start + 1; i < len(lines); i++ {
		if len(bytes.TrimSpace(lines[i])) == 0 {
			continue
		}
		own := len(lines[i]) - len(bytes.TrimLeft(lines[i], " "))
		if indent < 0 {
			indent = own
		}
		if own < indent {
			break
		}
		end = i
	}
	return end
}

// quoted returns what the text n takes up.
func quoted(lines [][]byte, n *yaml.Node, quote byte) span {
	p := place{n.Line - 1, runeOffset(lines[n.Line-1], n.Column-1)}
	// An anchor or a tag may stand before the text, and has no quotes.
	p.at += bytes.IndexByte(lines[p.line][p.at:], quote)
	start := p
	for p.at++; p.line < len(lines); p = (place{p.line + 1, 0}) {
		line := lines[p.line]
		for ; p.at < len(line); p.at++ {
			switch {
			case line[p.at] == '\\' && quote == '"':
				p.at++
			case line[p.at] != quote:
			case quote == '\'' && p.at+1 < len(line) && line[p.at+1] == quote:
				p.at++
			default:
				return span{start, p}
			}
		}
	}
	return span{start, p}
}

// runeOffset returns where the n-th character of line begins.
func runeOffset(line []byte, n int) int {
	at := 0
	for ; n > 0 && at < len(line); n-- {
		_, size := utf8.DecodeRune(line[at:])
		at += size
	}
	return at
}

package report

import (
	"bufio"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tollgate-apim/tollgate/controlplane/access"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// painter colours text for a terminal, or does not.
type painter bool

func (p painter) paint(code, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p painter) severity(s finding.Severity) string {
	if s == finding.Error {
		return p.paint("1;31", string(s))
	}
	return p.paint("1;33", string(s))
}

// text writes each finding on a line, with the line of the manifest that it is
// about below it, and a summary.
func text(w io.Writer, r *Report, o Options) error {
	b, p := bufio.NewWriter(w), painter(o.Colour)
	for _, f := range r.Findings {
		fmt.Fprintf(b, "%s: %s: %s (%s)\n", p.paint("1", oneLine(f.Place())), p.severity(f.Severity), f.Message(), f.Rule)
		excerpt(b, f, o, p)
	}
	if c := r.Change; c != nil {
		for _, f := range c.Gone {
			fmt.Fprintf(b, "%s: %s: %s (%s)\n", p.paint("32", "gone"), f.Severity, f.Message(), f.Rule)
		}
		accessText(b, c, p)
	}
	errors, warnings := finding.Count(r.Findings)
	switch {
	case r.Change != nil:
		fmt.Fprintf(b, "The change since %s brings %s and %s, and takes away %d.\n", oneLine(r.Change.Base), count(errors, "error"), count(warnings, "warning"), len(r.Change.Gone))
	case len(r.Findings) > 0:
		fmt.Fprintf(b, "%s, %s", count(errors, "error"), count(warnings, "warning"))
		if r.Ignored > 0 {
			fmt.Fprintf(b, ", %d ignored", r.Ignored)
		}
		fmt.Fprintln(b)
	}
	return b.Flush()
}

// oneLine keeps text from moving the cursor, and from being read backwards.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == utf8.RuneError {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

// maxExcerpt is the longest line, in bytes, that is shown.
const maxExcerpt = 160

// maxLine is the longest line, in bytes, of which an excerpt is tried: it may be
// long because of a comment, or of what is hidden.
const maxLine = 4 * maxExcerpt

// excerpt writes the line that a finding is about, and a mark below its place.
func excerpt(w io.Writer, f finding.Finding, o Options, p painter) {
	// The line where an object begins says nothing about it.
	if o.Line == nil || f.Line == 0 || f.Field == "" && f.Object != (finding.Object{}) {
		return
	}
	line, ok := o.Line(f.File, f.Line)
	if !ok || len(line) > maxLine || !utf8.ValidString(line) {
		return
	}
	runes := []rune(line)
	if f.Column > len(runes)+1 {
		return
	}
	at := max(f.Column-1, 0)
	told := toldBy(f)
	before, after := hide(string(runes[:at]), string(runes[at:]), told), hide(string(runes[at:]), "", told)
	if strings.TrimSpace(after) == "" || len(before)+len(after) > maxExcerpt {
		return
	}
	number := fmt.Sprintf("%6d | ", f.Line)
	fmt.Fprintf(w, "%s%s\n", p.paint("2", number), before+after)
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, before)
	fmt.Fprintf(w, "%s%s%s\n", p.paint("2", strings.Repeat(" ", len(number)-2)+"| "), indent, p.paint("1;32", "^"))
}

// word is what a value or a name of a field may be made of.
var word = regexp.MustCompile(`[^\s\[\]{},:"'#]+`)

// fieldName is what may stand before a colon without being told.
var fieldName = regexp.MustCompile(`^[A-Za-z]{1,30}$`)

// toldBy returns the words that a finding tells anyway.
func toldBy(f finding.Finding) map[string]bool {
	told := map[string]bool{"-": true, "|": true, ">": true, "---": true, "true": true, "false": true}
	for _, text := range []string{f.Message(), strings.NewReplacer(".", " ", "/", " ", "\\", " ").Replace(f.Message())} {
		for _, w := range word.FindAllString(text, -1) {
			told[strings.TrimRight(w, ";.)")] = true
		}
	}
	return told
}

// hide takes from a part of a line, after which comes another, all values that
// told does not have: any of them may be a key. Comments are taken off.
func hide(line, after string, told map[string]bool) string {
	if i := commentStart(line); i >= 0 {
		line, after = strings.TrimRight(line[:i], " \t"), ""
	}
	var b strings.Builder
	end, whole := 0, line+after
	for _, m := range word.FindAllStringIndex(line, -1) {
		w := line[m[0]:m[1]]
		b.WriteString(line[end:m[0]])
		end = m[1]
		rest := strings.TrimLeft(whole[m[1]:], `"'`)
		if told[w] || strings.HasPrefix(rest, ":") && fieldName.MatchString(w) {
			b.WriteString(w)
		} else if s := b.String(); !strings.HasSuffix(strings.TrimRight(s, " "), "…") {
			b.WriteString("…")
		}
	}
	b.WriteString(line[end:])
	return oneLineTabs(strings.TrimRight(b.String(), "\r"))
}

func oneLineTabs(s string) string {
	parts := strings.Split(s, "\t")
	for i := range parts {
		parts[i] = oneLine(parts[i])
	}
	return strings.Join(parts, "\t")
}

// commentStart returns where a comment begins, or -1. What follows a number sign
// in quotes is hidden too, which does no harm.
func commentStart(line string) int {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || line[i-1] == ' ' || line[i-1] == '\t') {
			return i
		}
	}
	return -1
}

// accessText writes what becomes of applications.
func accessText(w io.Writer, c *Change, p painter) {
	if len(c.Access) == 0 {
		fmt.Fprintf(w, "Access: no application gains, loses or changes anything since %s.\n", oneLine(c.Base))
		return
	}
	fmt.Fprintf(w, "Access since %s:\n", oneLine(c.Base))
	for _, change := range c.Access {
		fmt.Fprintf(w, "  %s\n", p.paint("1", oneLine(change.Application)))
		for _, d := range change.Fields {
			fmt.Fprintf(w, "    %s %s: %s → %s\n", p.paint("33", "~"), d.Field, oneLine(quoted(d.Before)), oneLine(quoted(d.After)))
		}
		for _, a := range change.APIs {
			switch a.Kind {
			case access.Gained:
				fmt.Fprintf(w, "    %s %s: %s\n", p.paint("32", "+"), a.API, grantText(a.After))
			case access.Lost:
				fmt.Fprintf(w, "    %s %s: %s\n", p.paint("31", "-"), a.API, grantText(a.Before))
			default:
				for _, d := range a.Differences() {
					fmt.Fprintf(w, "    %s %s: %s: %s → %s\n", p.paint("33", "~"), a.API, d.Field, oneLine(d.Before), oneLine(d.After))
				}
			}
		}
		for _, k := range change.Keys {
			fmt.Fprintf(w, "    %s %s\n", p.paint(keyColour[k.Kind], keySign[k.Kind]), oneLine(keyWords(k)))
		}
		for _, k := range change.Shared {
			for _, words := range sharedWords(k) {
				fmt.Fprintf(w, "    %s %s\n", p.paint(keyColour[k.Kind], keySign[k.Kind]), oneLine(words))
			}
		}
	}
}

func grantText(g *access.Grant) string {
	return oneLine(fmt.Sprintf("operations %s; plan %s; rate limit %s; quota %s; by %s", g.Operations, g.Plan, g.RateLimit, g.Quota, g.Subscription))
}

var (
	keySign = map[access.Kind]string{access.Added: "+", access.Removed: "-", access.Replaced: "~", access.Suspended: "-", access.Resumed: "+", access.Changed: "~", access.Admitted: "+", access.Refused: "-"}

	keyColour = map[access.Kind]string{access.Added: "32", access.Removed: "31", access.Replaced: "33", access.Suspended: "31", access.Resumed: "32", access.Changed: "33", access.Admitted: "32", access.Refused: "31"}
)

// quoted tells nothing from something.
func quoted(s string) string {
	if s == "" {
		return "none"
	}
	return strconv.Quote(s)
}

// sharedWords says what becomes of a key that several applications hold.
func sharedWords(k access.SharedKey) []string {
	name := sharedName(k)
	switch k.Kind {
	case access.Admitted:
		return []string{fmt.Sprintf("%s, shared, becomes admitted to %s: %s", name, k.API, reachText(k.After))}
	case access.Refused:
		return []string{fmt.Sprintf("%s, shared, becomes refused at %s: %s before", name, k.API, reachText(k.Before))}
	}
	var out []string
	for _, d := range k.Differences() {
		out = append(out, fmt.Sprintf("%s, shared, at %s: %s: %s → %s", name, k.API, d.Field, d.Before, d.After))
	}
	return out
}

func sharedName(k access.SharedKey) string {
	return keyName(access.KeyChange{Kind: k.Kind, Title: k.Title})
}

func reachText(r *access.Reach) string {
	return fmt.Sprintf("operations %s; accounted to %s", r.Operations, r.Application)
}

// keyWords says what becomes of a key.
func keyWords(k access.KeyChange) string {
	if k.Kind == access.Changed {
		return fmt.Sprintf("%s, called %q before", keyName(k), k.Before)
	}
	return keyName(k) + " " + string(k.Kind)
}

// keyName names a key by its title.
func keyName(k access.KeyChange) string {
	name := "key without a title"
	if k.Title != "" {
		name = fmt.Sprintf("key %q", k.Title)
	}
	if k.Suspended && k.Kind != access.Suspended {
		name += " (suspended)"
	}
	return name
}

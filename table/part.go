package table

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxParts is how many parts a table may have.
const MaxParts = 1 << 16

// MaxPartBytes is the size, in bytes after decompression, above which a part is
// refused, and MaxPartRows the number of rows. They bound the memory that a part
// takes while it is checked, however little it was when compressed.
const (
	MaxPartBytes = 16 << 20
	MaxPartRows  = 1 << 16
)

const (
	sumDigits = 2 * sha256.Size
	lowerHex  = "0123456789abcdef"
)

// How the text of a part begins, goes on from section to section, and ends.
const (
	partHead     = `{"applications":{`
	partKeys     = "\n},\"keys\":{"
	partSubs     = "\n},\"subscriptions\":{"
	partTail     = "\n}}"
	partFrames   = 3 // line ends in a part without rows
	rowSeparator = ",\n"
)

// Part is some of a table's rows, kept as the text that they came in: each line
// is a row, and the lines of a section are in order, so that a row is found
// without decoding the others. It is never changed, so any number of goroutines
// may read it.
type Part struct {
	sum  string
	text string
	// The lines of each section, without the commas between them. All share
	// the text.
	applications, keys, subscriptions []string
	// lowest and highest are the places of rows, as they would be in MaxParts
	// parts: of all keys, and of some of the other rows. Without rows they are
	// MaxParts and 0.
	lowest, highest int
}

// Sum returns the SHA-256 of the part, in lower-case hex, by which an index
// lists it.
func (p *Part) Sum() string { return p.sum }

// Text returns the part as it came, to the byte.
func (p *Part) Text() string { return p.text }

// PartPath is where a sync endpoint serves the part of a sum, relative to its
// base URL.
func PartPath(sum string) string { return "/v1/parts/" + sum }

// PartOfKey returns which of so many parts holds the key of a digest: the first
// bits of the digest, as a number. What is no digest belongs to part 0.
func PartOfKey(digest string, parts int) int {
	if len(digest) < 4 {
		return 0
	}
	bits, err := strconv.ParseUint(digest[:4], 16, 16)
	if err != nil {
		return 0
	}
	return int(bits * uint64(parts) / MaxParts)
}

// PartOfName returns which of so many parts holds the application or
// subscription of a name: the first bits of its SHA-256, as a number.
func PartOfName(name string, parts int) int {
	sum := sha256.Sum256([]byte(name))
	return scaled(int(sum[0])<<8|int(sum[1]), parts)
}

// scaled returns which of so many parts a place belongs to that is given as one
// of MaxParts.
func scaled(place, parts int) int {
	return int(int64(place) * int64(parts) / MaxParts)
}

// Holders returns the applications that hold the key of a digest, or none.
func Holders(t *Table, digest string) []Holder {
	if t.Loaded == nil {
		return t.Keys[digest]
	}
	return loadedHolders(t, digest)
}

// Lists reports whether the table has a row for the key of a digest. It costs less
// than Holders.
func Lists(t *Table, digest string) bool {
	if t.Loaded == nil {
		return len(t.Keys[digest]) > 0
	}
	return partLists(t, digest)
}

// FindApplication returns the application of a name, and whether there is one.
func FindApplication(t *Table, name string) (Application, bool) {
	if t.Loaded == nil {
		row, ok := t.Applications[name]
		return row, ok
	}
	part := t.Loaded[PartOfName(name, len(t.Loaded))]
	var rows map[string]Application
	decodeRow(part.applications, quoted(name), &rows)
	row, ok := rows[name]
	return row, ok
}

// FindSubscription returns the subscription of a name, and whether there is one.
func FindSubscription(t *Table, name string) (Subscription, bool) {
	if t.Loaded == nil {
		row, ok := t.Subscriptions[name]
		return row, ok
	}
	part := t.Loaded[PartOfName(name, len(t.Loaded))]
	var rows map[string]Subscription
	decodeRow(part.subscriptions, quoted(name), &rows)
	row, ok := rows[name]
	return row, ok
}

// partLists is Lists for a table in parts.
func partLists(t *Table, digest string) bool {
	lines, start := t.Loaded[PartOfKey(digest, len(t.Loaded))].keys, `"`+digest+`":`
	i := sort.SearchStrings(lines, start)
	return i < len(lines) && strings.HasPrefix(lines[i], start)
}

// loadedHolders is Holders for a table in parts. Anybody can send unknown keys, so
// what these do not need is in functions of its own.
func loadedHolders(t *Table, digest string) []Holder {
	lines, start := t.Loaded[PartOfKey(digest, len(t.Loaded))].keys, `"`+digest+`":`
	i := sort.SearchStrings(lines, start)
	if i == len(lines) || !strings.HasPrefix(lines[i], start) {
		return nil
	}
	return decodeHolders(lines, start, digest)
}

func decodeHolders(lines []string, start, digest string) []Holder {
	var rows map[string][]Holder
	decodeRow(lines, start, &rows)
	return rows[digest]
}

// decodeRow decodes the line that begins with start into rows, a pointer to a
// map. It leaves rows alone if there is no such line, or if there are two.
func decodeRow(lines []string, start string, rows any) {
	i := sort.SearchStrings(lines, start)
	if i == len(lines) || !strings.HasPrefix(lines[i], start) {
		return
	}
	if i+1 < len(lines) && strings.HasPrefix(lines[i+1], start) {
		return
	}
	_ = decodeLine(lines[i], rows) // ParsePart has seen to it that this succeeds.
}

// decodeLine decodes a line into rows, a pointer to a map.
func decodeLine(line string, rows any) error {
	return json.Unmarshal([]byte("{"+line+"}"), rows)
}

// quoted returns how the line of a row begins.
func quoted(name string) string {
	text, _ := json.Marshal(name) // A string always can.
	return string(text) + ":"
}

// ParsePart returns the part that data holds, or an error that says what is
// wrong with it. Data must have the SHA-256 sum, and be laid out as Split does.
// Fields of rows that are unknown are ignored.
func ParsePart(sum string, data []byte) (*Part, error) {
	p, err := parsePart(sum, data)
	if err != nil {
		return nil, fmt.Errorf("part %s: %w", sum, err)
	}
	return p, nil
}

func parsePart(sum string, data []byte) (*Part, error) {
	if len(data) > MaxPartBytes {
		return nil, fmt.Errorf("%w: over %d bytes", ErrTooLarge, MaxPartBytes)
	}
	if got := PartSum(data); got != sum {
		return nil, fmt.Errorf("has SHA-256 %s (%d bytes)", got, len(data))
	}
	p := &Part{sum: sum, text: string(data), lowest: MaxParts}
	text := strings.TrimSuffix(p.text, "\n")
	ends := strings.Count(text, "\n")
	if ends > MaxPartRows+partFrames {
		return nil, fmt.Errorf("%w: over %d rows", ErrTooLarge, MaxPartRows)
	}
	rest := strings.TrimPrefix(text, partHead)
	applications, rest, hasKeys := strings.Cut(rest, partKeys)
	keys, rest, hasSubs := strings.Cut(rest, partSubs)
	subscriptions := strings.TrimSuffix(rest, partTail)
	if !strings.HasPrefix(text, partHead) || !hasKeys || !hasSubs || len(subscriptions) == len(rest) {
		return nil, errors.New("must have the sections applications, keys and subscriptions, each row on a line of its own")
	}
	for _, section := range []struct {
		name, body string
		lines      *[]string
	}{
		{"applications", applications, &p.applications},
		{"keys", keys, &p.keys},
		{"subscriptions", subscriptions, &p.subscriptions},
	} {
		lines, err := splitSection(section.body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", section.name, err)
		}
		*section.lines = lines
	}
	rows := len(p.applications) + len(p.keys) + len(p.subscriptions)
	if ends != rows+partFrames || strings.Count(text, "\n\"") != rows {
		return nil, errors.New("has lines that are not rows, or begin with something else than a name")
	}
	if err := checkRows(p); err != nil {
		return nil, err
	}
	if err := checkNames(p, text); err != nil {
		return nil, err
	}
	locate(p)
	return p, nil
}

// splitSection returns the lines of a section.
func splitSection(body string) ([]string, error) {
	if body == "" {
		return nil, nil
	}
	if body[0] != '\n' {
		return nil, errors.New("the first row must be on a line of its own")
	}
	lines := strings.Split(body[1:], rowSeparator)
	if !sort.StringsAreSorted(lines) {
		return nil, errors.New("lines must be in ascending order of their bytes")
	}
	return lines, nil
}

// checkRows returns an error unless each line is one row of the right type.
//
// It decodes the lines as a list of objects, because one call into compiled
// code does that, and a call for each line would take many times as long. Before
// each line it puts a mark: a member with a name that no line can have, because
// it is from the part's own SHA-256. A list of as many objects as there are
// lines, each with a mark, has no line that begins inside another's row. If each
// has one name besides, no line has several rows. So the part as a whole has
// these rows and no others.
func checkRows(p *Part) error {
	mark := p.sum[:sumDigits/2]
	first, between := `{"`+mark+`":null,`, `},{"`+mark+`":null,`
	var text bytes.Buffer
	for _, section := range []struct {
		before string
		lines  []string
	}{
		{`{"applications":[`, p.applications},
		{`],"keys":[`, p.keys},
		{`],"subscriptions":[`, p.subscriptions},
	} {
		text.WriteString(section.before)
		if len(section.lines) > 0 {
			text.WriteString(first)
			text.WriteString(strings.Join(section.lines, between))
			text.WriteString("}")
		}
	}
	text.WriteString("]}")

	var rows struct {
		Applications  []map[string]Application  `json:"applications"`
		Keys          []map[string][]Holder     `json:"keys"`
		Subscriptions []map[string]Subscription `json:"subscriptions"`
	}
	if err := json.Unmarshal(text.Bytes(), &rows); err != nil {
		return badRow(p, err)
	}
	if len(rows.Applications) != len(p.applications) || len(rows.Keys) != len(p.keys) || len(rows.Subscriptions) != len(p.subscriptions) {
		return errors.New("has rows that are not on lines of their own")
	}
	for i, row := range rows.Applications {
		if _, marked := row[mark]; !marked || len(row) != 2 {
			return notOneRow("applications", p.applications[i])
		}
	}
	for i, row := range rows.Keys {
		if _, marked := row[mark]; !marked || len(row) != 2 {
			return notOneRow("keys", p.keys[i])
		}
	}
	for i, row := range rows.Subscriptions {
		if _, marked := row[mark]; !marked || len(row) != 2 {
			return notOneRow("subscriptions", p.subscriptions[i])
		}
	}
	return nil
}

// badRow returns why a part cannot be decoded, and names the row. Other is the
// reason if no row by itself is one.
func badRow(p *Part, other error) error {
	for _, section := range []struct {
		name  string
		lines []string
		rows  any
	}{
		{"applications", p.applications, &map[string]Application{}},
		{"keys", p.keys, &map[string][]Holder{}},
		{"subscriptions", p.subscriptions, &map[string]Subscription{}},
	} {
		for _, line := range section.lines {
			if err := decodeLine(line, section.rows); err != nil {
				return fmt.Errorf("%s: row %s: %w", section.name, shortened(section.name, line), err)
			}
		}
	}
	return fmt.Errorf("decoding its rows: %w", other)
}

func notOneRow(section, line string) error {
	return fmt.Errorf("%s: line %s must be one row", section, shortened(section, line))
}

// shortened returns a line as an error shows it: never a whole digest.
func shortened(section, line string) string {
	most := 100
	if section == "keys" {
		most = len(`"`) + 8
	}
	if len(line) > most {
		return strings.ToValidUTF8(line[:most], "") + "…"
	}
	return line
}

// checkNames returns an error unless each line begins as look-ups expect it: with
// the name as encoding/json writes it, and a colon. Most parts have nothing in
// them that could be written in another way.
func checkNames(p *Part, text string) error {
	const escaped, spaces = `\<>&`, "\t\r"
	odd := strings.Contains(text, `" :`) || !utf8.ValidString(text) ||
		strings.Contains(text, "\u2028") || strings.Contains(text, "\u2029")
	if !odd && !strings.ContainsAny(text, escaped+spaces) {
		return nil
	}
	odd = odd || strings.ContainsAny(text, spaces)
	for _, section := range []struct {
		name  string
		lines []string
	}{
		{"applications", p.applications},
		{"keys", p.keys},
		{"subscriptions", p.subscriptions},
	} {
		for _, line := range section.lines {
			if !odd && !strings.ContainsAny(line, escaped) {
				continue
			}
			for _, name := range namesIn(line) {
				if start := quoted(name); !strings.HasPrefix(line, start) {
					return fmt.Errorf("%s: row %s must begin with %s", section.name,
						shortened(section.name, line), shortened(section.name, start))
				}
			}
		}
	}
	return nil
}

// namesIn returns the names of the rows on a line, of which there is one.
func namesIn(line string) []string {
	var rows map[string]json.RawMessage
	_ = decodeLine(line, &rows) // checkRows has seen to it that this succeeds.
	var names []string
	for name := range rows {
		names = append(names, name)
	}
	return names
}

// locate finds out where rows of a part belong. Digests are in the order of
// their places; of the other rows two of each section have to do.
func locate(p *Part) {
	if n := len(p.keys); n > 0 {
		place(p, PartOfKey(p.keys[0][1:], MaxParts))
		place(p, PartOfKey(p.keys[n-1][1:], MaxParts))
	}
	for _, lines := range [][]string{p.applications, p.subscriptions} {
		if n := len(lines); n > 0 {
			for _, name := range append(namesIn(lines[0]), namesIn(lines[n-1])...) {
				place(p, PartOfName(name, MaxParts))
			}
		}
	}
}

func place(p *Part, at int) {
	if at < p.lowest {
		p.lowest = at
	}
	if at > p.highest {
		p.highest = at
	}
}

// Assemble returns the table that an index and its parts make up. The parts are
// in the order in which the index lists them. The index stays as it is.
func Assemble(index *Table, parts []*Part) (*Table, error) {
	if err := fits(index.Parts, parts); err != nil {
		return nil, fmt.Errorf("assembling table: %w", err)
	}
	whole := *index
	whole.Loaded = append([]*Part{}, parts...)
	return &whole, nil
}

// fits returns an error unless parts are those that an index lists, and have the
// rows that belong there.
func fits(sums []string, parts []*Part) error {
	n := len(sums)
	if n == 0 {
		return errors.New("it is no index")
	}
	if len(parts) != n {
		return fmt.Errorf("got %d parts, the index lists %d", len(parts), n)
	}
	for i, p := range parts {
		if p == nil {
			return fmt.Errorf("part %d is missing, must be %s", i, sums[i])
		}
		if p.sum != sums[i] {
			return fmt.Errorf("part %d is %s, must be %s", i, p.sum, sums[i])
		}
		if from, to := scaled(p.lowest, n), scaled(p.highest, n); from < i || to > i {
			return fmt.Errorf("part %d (%s) has rows of parts %d to %d", i, p.sum, from, to)
		}
	}
	return nil
}

// LoadedParts returns the parts of an assembled table in order, or nil if t is
// one document. The list must not be changed.
func LoadedParts(t *Table) []*Part { return t.Loaded }

// Split returns t as an index and n parts, in the order in which the index lists
// them. N must be a power of two, MaxParts at most. Names must be valid UTF-8.
func Split(t *Table, n int) (index *Table, parts [][]byte) {
	rows := make([]Table, n)
	for i := range rows {
		rows[i] = Table{Applications: map[string]Application{}, Keys: map[string][]Holder{}, Subscriptions: map[string]Subscription{}}
	}
	for name, row := range t.Applications {
		rows[PartOfName(name, n)].Applications[name] = row
	}
	for digest, row := range t.Keys {
		rows[PartOfKey(digest, n)].Keys[digest] = row
	}
	for name, row := range t.Subscriptions {
		rows[PartOfName(name, n)].Subscriptions[name] = row
	}
	index = &Table{Revision: t.Revision, IssuedAt: t.IssuedAt, Plans: t.Plans, APIs: t.APIs, Parts: make([]string, n)}
	parts = make([][]byte, n)
	for i := range rows {
		parts[i] = EncodePart(&rows[i])
		index.Parts[i] = PartSum(parts[i])
	}
	return index, parts
}

// MaxCompared is how many rows a table may have that Restated compares with an
// index.
const MaxCompared = 1 << 18

// Restated reports whether one of two tables is an index, the other one a document,
// and both are the same table: the document would make the same index, but for how
// it is written down. That takes a few seconds at most, and little memory. Documents
// of more than MaxCompared rows are not looked at.
func Restated(a, b *Table) bool {
	document, index := a, b
	if len(a.Parts) > 0 {
		document = b
		index = a
	}
	n := len(index.Parts)
	if n == 0 || len(document.Parts) > 0 || !sameHead(document, index) {
		return false
	}
	if len(document.Applications)+len(document.Keys)+len(document.Subscriptions) > MaxCompared {
		return false
	}
	rows := make([]partNames, n)
	for name := range document.Applications {
		at := PartOfName(name, n)
		rows[at].applications = append(rows[at].applications, name)
	}
	for digest := range document.Keys {
		at := PartOfKey(digest, n)
		rows[at].keys = append(rows[at].keys, digest)
	}
	for name := range document.Subscriptions {
		at := PartOfName(name, n)
		rows[at].subscriptions = append(rows[at].subscriptions, name)
	}
	for i, sum := range index.Parts {
		if PartSum(EncodePart(only(document, rows[i]))) != sum {
			return false
		}
	}
	return true
}

// partNames are the names of the rows of a part.
type partNames struct {
	applications, keys, subscriptions []string
}

// only returns a table with the rows of t that have these names.
func only(t *Table, names partNames) *Table {
	rows := &Table{Applications: map[string]Application{}, Keys: map[string][]Holder{}, Subscriptions: map[string]Subscription{}}
	for _, name := range names.applications {
		rows.Applications[name] = t.Applications[name]
	}
	for _, digest := range names.keys {
		rows.Keys[digest] = t.Keys[digest]
	}
	for _, name := range names.subscriptions {
		rows.Subscriptions[name] = t.Subscriptions[name]
	}
	return rows
}

// sameHead reports whether all that an index has beside its parts is the same in two
// tables.
func sameHead(a, b *Table) bool {
	if a.Revision != b.Revision || !a.IssuedAt.Equal(b.IssuedAt) {
		return false
	}
	one, err := json.Marshal(Table{Plans: a.Plans, APIs: a.APIs})
	if err != nil {
		return false
	}
	other, err := json.Marshal(Table{Plans: b.Plans, APIs: b.APIs})
	return err == nil && bytes.Equal(one, other)
}

// PartSum returns the sum of a part, by which an index lists it.
func PartSum(part []byte) string {
	sum := sha256.Sum256(part)
	return hex.EncodeToString(sum[:])
}

// EncodePart returns the applications, keys and subscriptions of t as one part.
// Nothing else of t is looked at. Split does this for each part; who knows which
// part has changed needs to encode that alone.
func EncodePart(t *Table) []byte {
	var applications, keys, subscriptions []string
	for name, row := range t.Applications {
		applications = append(applications, line(name, row))
	}
	for digest, row := range t.Keys {
		keys = append(keys, line(digest, row))
	}
	for name, row := range t.Subscriptions {
		subscriptions = append(subscriptions, line(name, row))
	}
	return []byte(partHead + section(applications) + partKeys + section(keys) + partSubs + section(subscriptions) + partTail + "\n")
}

// line returns a row as a line of a part.
func line(name string, row any) string {
	text, _ := json.Marshal(row) // The types of rows always can.
	return quoted(name) + string(text)
}

// section returns lines, which it sorts, as a section of a part.
func section(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	sort.Strings(lines)
	return "\n" + strings.Join(lines, rowSeparator)
}

// SignedMessage returns what a signature of a table signs, where body is exactly
// what the sync endpoint serves at Path, before compression.
func SignedMessage(body []byte) []byte {
	return append([]byte("tollgate table v1\n"), body...)
}

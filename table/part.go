package table

import (
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
	sum string
	// The lines of each section, without the commas between them. All share
	// one text.
	applications, keys, subscriptions []string
}

// Sum returns the SHA-256 of the part, in lower-case hex, by which an index
// lists it.
func (p *Part) Sum() string { return p.sum }

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
	return int(bits) * parts >> 16
}

// PartOfName returns which of so many parts holds the application or
// subscription of a name: the first bits of its SHA-256, as a number.
func PartOfName(name string, parts int) int {
	sum := sha256.Sum256([]byte(name))
	return (int(sum[0])<<8 | int(sum[1])) * parts >> 16
}

// Holders returns the applications that hold the key of a digest, or none.
func Holders(t *Table, digest string) []Holder {
	if t.Loaded == nil {
		return t.Keys[digest]
	}
	return loadedHolders(t, digest)
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

// loadedHolders is Holders for a table in parts.
func loadedHolders(t *Table, digest string) []Holder {
	part := t.Loaded[PartOfKey(digest, len(t.Loaded))]
	var rows map[string][]Holder
	decodeRow(part.keys, `"`+digest+`":`, &rows)
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
	// ParsePart has seen to it that this succeeds.
	_ = json.Unmarshal([]byte("{"+lines[i]+"}"), rows)
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
	is := sha256.Sum256(data)
	if got := hex.EncodeToString(is[:]); got != sum {
		return nil, fmt.Errorf("its SHA-256 is %s (%d bytes)", got, len(data))
	}
	text := strings.TrimSuffix(string(data), "\n")
	rest := strings.TrimPrefix(text, partHead)
	applications, rest, hasKeys := strings.Cut(rest, partKeys)
	keys, rest, hasSubs := strings.Cut(rest, partSubs)
	subscriptions := strings.TrimSuffix(rest, partTail)
	if !strings.HasPrefix(text, partHead) || !hasKeys || !hasSubs || len(subscriptions) == len(rest) {
		return nil, errors.New("is not laid out as the sections applications, keys and subscriptions with their rows on lines of their own")
	}
	p := &Part{sum: sum}
	for _, section := range []struct {
		name  string
		body  string
		lines *[]string
	}{
		{"applications", applications, &p.applications},
		{"keys", keys, &p.keys},
		{"subscriptions", subscriptions, &p.subscriptions},
	} {
		if section.body == "" {
			continue
		}
		if section.body[0] != '\n' {
			return nil, fmt.Errorf("%s: the first row must be on a line of its own", section.name)
		}
		lines := strings.Split(section.body[1:], rowSeparator)
		if !sort.StringsAreSorted(lines) {
			return nil, fmt.Errorf("%s: the lines must be in ascending order", section.name)
		}
		*section.lines = lines
	}
	if rows := len(p.applications) + len(p.keys) + len(p.subscriptions); strings.Count(text, "\n") != rows+partFrames {
		return nil, errors.New("has line ends that are not between rows")
	}
	if err := checkRows(p); err != nil {
		return nil, err
	}
	if plain(text) {
		return p, nil
	}
	for _, lines := range [][]string{p.applications, p.keys, p.subscriptions} {
		if err := checkNames(lines); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// marker is a member that is put before each line, in an object of the line's
// own. Its name is the part's SHA-256, so no line can have one by itself.
func marker(sum string) string { return `"` + sum + `":null,` }

// lineObjects returns lines as a list of objects, one each.
func lineObjects(sum string, lines []string) string {
	if len(lines) == 0 {
		return "[]"
	}
	return "[{" + marker(sum) + strings.Join(lines, "},{"+marker(sum)) + "}]"
}

// partRows are rows as lineObjects has them.
type partRows struct {
	Applications  []map[string]Application  `json:"applications"`
	Keys          []map[string][]Holder     `json:"keys"`
	Subscriptions []map[string]Subscription `json:"subscriptions"`
}

// checkRows returns an error unless each line is one row of the right type.
//
// It decodes the lines as a list of objects, because one call into compiled
// code does that, and a call for each line would take many times as long. A
// list of as many objects as there are lines, each with a marker in it, has no
// line that begins inside another's row. If each has one name besides, no line
// has several rows. So the part as a whole holds these rows and no others.
func checkRows(p *Part) error {
	var rows partRows
	err := json.Unmarshal([]byte(`{"applications":`+lineObjects(p.sum, p.applications)+
		`,"keys":`+lineObjects(p.sum, p.keys)+
		`,"subscriptions":`+lineObjects(p.sum, p.subscriptions)+`}`), &rows)
	if err != nil {
		return fmt.Errorf("decoding its rows: %w", err)
	}
	if len(rows.Applications) != len(p.applications) || len(rows.Keys) != len(p.keys) || len(rows.Subscriptions) != len(p.subscriptions) {
		return errors.New("has rows that are not on lines of their own")
	}
	for i, row := range rows.Applications {
		if _, marked := row[p.sum]; !marked || len(row) != 2 {
			return lineError("applications", p.applications[i])
		}
	}
	for i, row := range rows.Keys {
		if _, marked := row[p.sum]; !marked || len(row) != 2 {
			return lineError("keys", p.keys[i])
		}
	}
	for i, row := range rows.Subscriptions {
		if _, marked := row[p.sum]; !marked || len(row) != 2 {
			return lineError("subscriptions", p.subscriptions[i])
		}
	}
	return nil
}

func lineError(section, line string) error {
	return fmt.Errorf("%s: %q is not one row", section, line)
}

// checkNames returns an error unless each line begins as look-ups expect it.
func checkNames(lines []string) error {
	for _, line := range lines {
		if plain(line) {
			continue
		}
		var row map[string]json.RawMessage
		_ = json.Unmarshal([]byte("{"+line+"}"), &row) // checkRows has seen to it.
		for name := range row {
			if !strings.HasPrefix(line, quoted(name)) {
				return fmt.Errorf("the name of row %q must be written as Go's encoding/json does, with a colon right behind", name)
			}
		}
	}
	return nil
}

// plain tells whether the names of rows in a text are sure to be written as
// encoding/json does.
func plain(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsAny(text, "\\<>&\t\r") && !strings.Contains(text, `" :`) &&
		!strings.Contains(text, "\u2028") && !strings.Contains(text, "\u2029")
}

// Assemble returns the table that an index and its parts make up. The parts are
// in the order in which the index lists them. The index stays as it is.
func Assemble(index *Table, parts []*Part) (*Table, error) {
	if len(index.Parts) == 0 {
		return nil, errors.New("assembling table: it is no index")
	}
	if len(parts) != len(index.Parts) {
		return nil, fmt.Errorf("assembling table: %d parts, the index lists %d", len(parts), len(index.Parts))
	}
	for i, sum := range index.Parts {
		if parts[i] == nil {
			return nil, fmt.Errorf("assembling table: part %d is missing, must be %s", i, sum)
		}
		if parts[i].sum != sum {
			return nil, fmt.Errorf("assembling table: part %d is %s, must be %s", i, parts[i].sum, sum)
		}
	}
	whole := *index
	whole.Loaded = append([]*Part{}, parts...)
	return &whole, nil
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

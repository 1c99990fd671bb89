package stack

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// PartsPath is below what a sync endpoint serves parts.
const PartsPath = "/v1/parts/"

// SplitTable returns a table as an index and n parts by their SHA-256, as
// docs/sync.md describes them. It shares nothing with the plugin's own package,
// so that the one can be held against the other.
func SplitTable(table []byte, n int) (index []byte, parts map[string][]byte, err error) {
	var document map[string]json.RawMessage
	if err := json.Unmarshal(table, &document); err != nil {
		return nil, nil, fmt.Errorf("splitting table: %w", err)
	}
	texts := make([]bytes.Buffer, n)
	before := "{"
	for _, section := range []string{"applications", "keys", "subscriptions"} {
		lines, err := splitSection(document[section], section == "keys", n)
		if err != nil {
			return nil, nil, fmt.Errorf("splitting table: %s: %w", section, err)
		}
		delete(document, section)
		for i := range texts {
			fmt.Fprintf(&texts[i], "%s%q:{", before, section)
			if len(lines[i]) > 0 {
				slices.Sort(lines[i])
				texts[i].WriteString("\n" + strings.Join(lines[i], ",\n"))
			}
			texts[i].WriteString("\n")
		}
		before = "},"
	}
	parts = map[string][]byte{}
	var sums []string
	for i := range texts {
		texts[i].WriteString("}}\n")
		sum := sha256.Sum256(texts[i].Bytes())
		sums = append(sums, hex.EncodeToString(sum[:]))
		parts[sums[i]] = texts[i].Bytes()
	}
	if document["parts"], err = json.Marshal(sums); err != nil {
		return nil, nil, err
	}
	index, err = json.Marshal(document)
	return index, parts, err
}

// splitSection returns the lines of each part.
func splitSection(section json.RawMessage, digests bool, n int) ([][]string, error) {
	var rows map[string]json.RawMessage
	if err := json.Unmarshal(section, &rows); err != nil {
		return nil, err
	}
	lines := make([][]string, n)
	for name, row := range rows {
		line, err := json.Marshal(map[string]json.RawMessage{name: row})
		if err != nil {
			return nil, err
		}
		first := sha256.Sum256([]byte(name))
		if digests {
			if _, err := hex.Decode(first[:2], []byte(name[:min(4, len(name))])); err != nil || len(name) < 4 {
				return nil, fmt.Errorf("%q is no digest", name)
			}
		}
		part := int(binary.BigEndian.Uint16(first[:])) * n >> 16
		lines[part] = append(lines[part], string(line[1:len(line)-1]))
	}
	return lines, nil
}

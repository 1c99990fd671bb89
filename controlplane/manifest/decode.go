package manifest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

// Bounds on what one document may make of its aliases.
const (
	maxAliased = 100_000
	maxDepth   = 200
)

var (
	errAliases = errors.New("its aliases expand to too much")
	errDepth   = errors.New("it is nested too deeply")
)

// checkSize walks all that n stands for, aliases expanded, and fails when that
// is more than a document can need, which has aliased nodes already. What passes
// can be walked freely. Of what is itself an alias all counts.
func checkSize(n *yaml.Node, isAlias bool, aliased *int) error {
	var walk func(n *yaml.Node, depth int, inAlias bool) error
	walk = func(n *yaml.Node, depth int, inAlias bool) error {
		if depth > maxDepth {
			return errDepth
		}
		if inAlias {
			if *aliased++; *aliased > maxAliased {
				return errAliases
			}
		}
		if n.Kind == yaml.AliasNode {
			return walk(n.Alias, depth+1, true)
		}
		for _, c := range n.Content {
			if err := walk(c, depth+1, inAlias); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(n, 0, isAlias)
}

// deref follows aliases. It is for nodes that checkSize has passed.
func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// pair is a key of a mapping with its value.
type pair struct {
	key, value *yaml.Node
}

// pairs returns what a mapping holds, merge keys ("<<") resolved: what is
// written in the mapping itself goes before what is merged in. twice is called
// for a key that is written again.
func pairs(mapping *yaml.Node, twice func(again, first *yaml.Node)) []pair {
	var own []pair
	var merged []*yaml.Node
	seen := make(map[string]*yaml.Node, len(mapping.Content)/2)
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		k, v := deref(mapping.Content[i]), mapping.Content[i+1]
		if k.ShortTag() == "!!merge" {
			merged = append(merged, deref(v))
			continue
		}
		if first := seen[k.Value]; first != nil {
			twice(k, first)
			continue
		}
		seen[k.Value] = k
		own = append(own, pair{k, v})
	}
	for _, m := range merged {
		sources := []*yaml.Node{m}
		if m.Kind == yaml.SequenceNode {
			sources = m.Content
		}
		for _, s := range sources {
			if s = deref(s); s.Kind != yaml.MappingNode {
				continue
			}
			for _, p := range pairs(s, func(_, _ *yaml.Node) {}) {
				if seen[p.key.Value] == nil {
					seen[p.key.Value] = p.key
					own = append(own, p)
				}
			}
		}
	}
	return own
}

// decoder turns the nodes of one object into its Go type, notes where each field
// stands, and collects what does not fit. It never repeats a value: it may be a
// key.
type decoder struct {
	lineOffset int // lines of the file before the parsed text
	firstLine  int // of the object, in the parsed text
	shared     *shared
	path       []byte
	fields     []field
	misfits    []misfit
}

// misfit is a finding that does not know its object yet.
type misfit struct {
	rule                  finding.Rule
	line, column          int
	path                  string
	problem, allowed, fix string
}

// shared keeps what many objects have in common once: field paths, short texts
// such as kinds and namespaces, labels, and where the fields stand. It also keeps the
// fields of each Go type.
type shared struct {
	paths   map[string]string
	words   map[string]string
	layouts map[uint64][]field           // by hash
	labels  map[uint64]map[string]string // by hash
	seed    maphash.Seed
	types   map[reflect.Type]map[string][]int
}

// Bounds on what is kept to be shared, and on how long a word is.
const (
	maxShared  = 10_000
	maxWordLen = 64
)

func newShared() *shared {
	return &shared{
		paths: map[string]string{}, words: map[string]string{}, layouts: map[uint64][]field{}, labels: map[uint64]map[string]string{}, seed: maphash.MakeSeed(),
		types: map[reflect.Type]map[string][]int{},
	}
}

// word returns text, as one string for all who ask for the same.
func (s *shared) word(text string) string {
	if len(text) > maxWordLen {
		return text
	}
	if word, ok := s.words[text]; ok {
		return word
	}
	if len(s.words) < maxShared {
		s.words[text] = text
	}
	return text
}

// layout returns a copy of fields, as one slice for all who ask for the same.
func (s *shared) layout(fields []field) []field {
	var hash maphash.Hash
	hash.SetSeed(s.seed)
	for _, f := range fields {
		maphash.WriteComparable(&hash, f)
	}
	sum := hash.Sum64()
	if layout := s.layouts[sum]; slices.Equal(layout, fields) {
		return layout
	}
	layout := slices.Clone(fields)
	if len(s.layouts) < maxShared {
		s.layouts[sum] = layout
	}
	return layout
}

// labelled returns labels, as one map for all who ask for the same. Nobody may
// change it.
func (s *shared) labelled(labels map[string]string) map[string]string {
	sum := uint64(0)
	for key, value := range labels {
		sum += maphash.String(s.seed, key) ^ maphash.String(s.seed, value)<<1 // in whatever order
	}
	if before, ok := s.labels[sum]; ok && maps.Equal(before, labels) {
		return before
	}
	if len(s.labels) < maxShared {
		s.labels[sum] = labels
	}
	return labels
}

func (s *shared) path(b []byte) string {
	if p, ok := s.paths[string(b)]; ok {
		return p
	}
	p := string(b)
	s.paths[p] = p
	return p
}

// fieldsOf returns the index of each field of t by its JSON name.
func (s *shared) fieldsOf(t reflect.Type) map[string][]int {
	fields, ok := s.types[t]
	if ok {
		return fields
	}
	fields = map[string][]int{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name == "-":
		case name == "" && f.Anonymous:
			for inner, index := range s.fieldsOf(f.Type) {
				fields[inner] = append([]int{i}, index...)
			}
		case name != "":
			fields[name] = []int{i}
		}
	}
	s.types[t] = fields
	return fields
}

func (d *decoder) note(n *yaml.Node) {
	d.fields = append(d.fields, field{d.shared.path(d.path), int32(n.Line - d.firstLine), int32(n.Column)})
}

func (d *decoder) misfit(n *yaml.Node, rule finding.Rule, problem, allowed, fix string) {
	d.misfits = append(d.misfits, misfit{rule, n.Line + d.lineOffset, n.Column, string(d.path), problem, allowed, fix})
}

var (
	ignoredType     = reflect.TypeFor[Ignored]()
	unmarshalerType = reflect.TypeFor[json.Unmarshaler]()
)

// value decodes n, which checkSize has passed, into v.
func (d *decoder) value(n *yaml.Node, v reflect.Value) {
	n = deref(n)
	// Types that unmarshal themselves are Kubernetes' bookkeeping in metadata,
	// such as times, which nothing here reads.
	if isNull(n) || v.Type() == ignoredType || reflect.PointerTo(v.Type()).Implements(unmarshalerType) {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, v.Elem())
	case reflect.Struct:
		d.structure(n, v)
	case reflect.Map:
		d.mapping(n, v)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			d.bytes(n, v)
		} else {
			d.sequence(n, v)
		}
	default:
		d.scalar(n, v)
	}
}

// members calls each for what the mapping n holds, with d.path at the member.
func (d *decoder) members(n *yaml.Node, each func(p pair)) {
	if n.Kind != yaml.MappingNode {
		d.misfit(n, finding.Resource, "is "+kindName(n), "a mapping", "")
		return
	}
	length := len(d.path)
	member := func(k *yaml.Node) {
		d.path = d.path[:length]
		if length > 0 {
			d.path = append(d.path, '.')
		}
		d.path = append(d.path, k.Value...)
	}
	for _, p := range pairs(n, func(again, first *yaml.Node) {
		member(again)
		d.misfit(again, finding.Duplicate, fmt.Sprintf("is written twice, first on line %d", first.Line+d.lineOffset), "", "take one of them out")
	}) {
		member(p.key)
		each(p)
	}
	d.path = d.path[:length]
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value) {
	known := d.shared.fieldsOf(v.Type())
	d.members(n, func(p pair) {
		index, ok := known[p.key.Value]
		if !ok {
			d.unknown(p.key, known)
			return
		}
		d.note(p.key)
		if restricting[p.key.Value] && isEmpty(deref(p.value)) {
			d.misfit(p.key, finding.Resource, "has no value", "",
				"write a value, or take the field out to have no such restriction")
			return
		}
		d.value(p.value, v.FieldByIndex(index))
	})
}

// isEmpty reports whether n is null or an empty string. Empty lists and mappings
// are something that somebody wrote.
func isEmpty(n *yaml.Node) bool {
	return isNull(n) || n.Kind == yaml.ScalarNode && n.Value == ""
}

func (d *decoder) unknown(key *yaml.Node, known map[string][]int) {
	names := make([]string, 0, len(known))
	for name := range known {
		names = append(names, name)
	}
	// A name that is this long is no misspelling, and may be anything.
	if len(key.Value) > 60 {
		d.path = append(d.path[:len(d.path)-len(key.Value)], "…"...)
	}
	if name := Nearest(key.Value, names); name != "" {
		d.misfit(key, finding.UnknownField, "is not a known field", "", fmt.Sprintf("did you mean %q?", name))
		return
	}
	// It may be a restriction, which nobody should be told to take out.
	slices.Sort(names)
	d.misfit(key, finding.UnknownField, "is not a known field", strings.Join(names, ", "),
		"write the field that was meant, or take it out if it restricts nothing")
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	d.members(n, func(p pair) {
		d.note(p.key)
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(p.value, item)
		v.SetMapIndex(reflect.ValueOf(p.key.Value).Convert(v.Type().Key()), item)
	})
	if labels, ok := v.Interface().(map[string]string); ok {
		v.Set(reflect.ValueOf(d.shared.labelled(labels)))
	}
}

func (d *decoder) sequence(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		d.misfit(n, finding.Resource, "is "+kindName(n), "a list", "")
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	length := len(d.path)
	for i, item := range n.Content {
		d.path = strconv.AppendInt(append(d.path[:length], '['), int64(i), 10)
		d.path = append(d.path, ']')
		d.note(item)
		d.value(item, v.Index(i))
	}
	d.path = d.path[:length]
}

func (d *decoder) bytes(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.misfit(n, finding.Resource, "is "+kindName(n), "a string", "")
		return
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
	if err != nil {
		d.misfit(n, finding.Secret, "is not base64", "",
			"encode the value, or write it as it is under stringData")
		return
	}
	v.SetBytes(data)
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.ScalarNode {
		d.misfit(n, finding.Resource, "is "+kindName(n), typeName(v.Kind()), "")
		return
	}
	tag := n.ShortTag()
	switch v.Kind() {
	case reflect.String:
		// A date that is not quoted is a timestamp to YAML and text to us.
		if tag == "!!str" || tag == "!!timestamp" {
			v.SetString(d.shared.word(n.Value))
			return
		}
		d.misfit(n, finding.Resource, "is "+kindName(n), "a string", "put it in quotes")
	case reflect.Bool:
		var b bool
		if tag == "!!bool" && n.Decode(&b) == nil {
			v.SetBool(b)
			return
		}
		d.misfit(n, finding.Resource, "is "+kindName(n), "true or false", "")
	default: // the kinds have no other scalars than whole numbers
		var i int64
		if tag == "!!int" && n.Decode(&i) == nil && !v.OverflowInt(i) {
			v.SetInt(i)
			return
		}
		d.misfit(n, finding.Resource, "is "+kindName(n), "a whole number", "")
	}
}

func typeName(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	}
	return "a whole number"
}

// kindName says what n is, without its value.
func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!null":
		return "empty"
	case "!!str":
		return "a string"
	}
	return "something else"
}

// Nearest returns the one of names that word is most likely a misspelling of,
// or "" if it is near to none.
func Nearest(word string, names []string) string {
	best, bestDistance := "", max(1, len(word)/3)+1
	for _, name := range names {
		distance := editDistance(strings.ToLower(word), strings.ToLower(name))
		if distance < bestDistance || distance == bestDistance && best != "" && name < best {
			best, bestDistance = name, distance
		}
	}
	return best
}

// editDistance is how many bytes must be inserted, left out, replaced or swapped
// with their neighbour (optimal string alignment). Long words are far from
// everything.
func editDistance(a, b string) int {
	if len(a) > 60 {
		return len(a)
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, last, row = last, row, before
		row[0] = i + 1
		for j := range len(b) {
			substitute := last[j]
			if a[i] != b[j] {
				substitute++
			}
			row[j+1] = min(substitute, row[j]+1, last[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

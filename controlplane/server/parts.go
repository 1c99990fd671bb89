package server

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/table"
)

// leastRows is how many rows the first of the parts of a table has at least. The
// others have as many, give or take what chance does.
const leastRows = 500

// Why a part cannot be made.
var (
	errTooLarge    = errors.New("a part would be larger than gateways take")
	errRowTooLarge = fmt.Errorf("%w, which has only one row", errTooLarge)
)

// part is some of a table's rows as they are sent. It is never changed.
type part struct {
	sum    string
	size   int    // of the text, in bytes
	zipped []byte // the text, compressed
}

// text returns what gateways see after decompression.
func (p *part) text() ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(p.zipped))
	if err != nil {
		return nil, err
	}
	text := bytes.NewBuffer(make([]byte, 0, p.size+bytes.MinRead))
	_, err = text.ReadFrom(z)
	return text.Bytes(), err
}

// partition is a table in parts. It is never changed.
type partition struct {
	parts []*part // their number is a power of two
	rows  census
}

// census counts the rows of a table.
type census struct {
	subscriptions, applications, keys int
	// places are the rows in each part if there were as many parts as there may be.
	places [table.MaxParts]int32
}

func (c *census) total() int { return c.subscriptions + c.applications + c.keys }

func (c *census) add(section *int, place int, n int32) {
	*section += int(n)
	c.places[place] += n
}

// agrees reports whether c counts as many rows as t has.
func (c *census) agrees(t *table.Table) bool {
	return c.subscriptions == len(t.Subscriptions) && c.applications == len(t.Applications) && c.keys == len(t.Keys)
}

func count(t *table.Table) *census {
	c := &census{}
	for name := range t.Subscriptions {
		c.add(&c.subscriptions, table.PartOfName(name, table.MaxParts), 1)
	}
	for name := range t.Applications {
		c.add(&c.applications, table.PartOfName(name, table.MaxParts), 1)
	}
	for digest := range t.Keys {
		c.add(&c.keys, table.PartOfKey(digest, table.MaxParts), 1)
	}
	return c
}

// parts returns how many parts to make of the rows.
//
// It is the largest number with which the first part still has leastRows. That
// depends on nothing but the rows, so that control planes with the same rows
// make the same parts, whatever they served before. And it hardly ever changes
// by a row that comes or goes, because that has to be a row of the first part,
// and the one that makes the difference: with a number that followed from how
// many rows there are, any row could do that, and move the whole table again and
// again.
//
// Rows are where the hash of their name puts them. Should someone see to it that
// the first part has far more of them than the others, or fewer, the number of
// all rows sets limits.
func (c *census) parts() int {
	n, first := table.MaxParts, int(c.places[0])
	for n > 1 && first < leastRows {
		for _, rows := range c.places[table.MaxParts/n : 2*table.MaxParts/n] {
			first += int(rows)
		}
		n /= 2
	}
	for n > 1 && c.total()/n < leastRows/2 {
		n /= 2
	}
	for n < table.MaxParts && c.total()/n > leastRows*4 {
		n *= 2
	}
	return n
}

// split makes a partition of t. It takes what it can from last, which may be nil.
func split(t *table.Table, last *partition) (*partition, error) {
	rows := count(t)
	for n := rows.parts(); ; n *= 2 {
		parts, err := encodeParts(t, n, last)
		if errors.Is(err, errTooLarge) && !errors.Is(err, errRowTooLarge) && n < table.MaxParts {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &partition{parts: parts, rows: *rows}, nil
	}
}

// encodeParts makes n parts of t, on all processors, or tells why one of them
// cannot be made. Those that last has too are the same objects.
func encodeParts(t *table.Table, n int, last *partition) ([]*part, error) {
	known := map[string]*part{}
	if last != nil {
		for _, p := range last.parts {
			known[p.sum] = p
		}
	}
	subscriptions := group(t.Subscriptions, table.PartOfName, n)
	applications := group(t.Applications, table.PartOfName, n)
	keys := group(t.Keys, table.PartOfKey, n)
	parts, failures := make([]*part, n), make([]error, runtime.GOMAXPROCS(0))
	var next atomic.Int64
	var workers sync.WaitGroup
	for worker := range failures {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				parts[i], failures[worker] = encodePart(&table.Table{
					Subscriptions: pick(t.Subscriptions, subscriptions[i]),
					Applications:  pick(t.Applications, applications[i]),
					Keys:          pick(t.Keys, keys[i]),
				}, known)
				if failures[worker] != nil {
					next.Store(int64(n)) // no need for the others
				}
			}
		})
	}
	workers.Wait()
	return parts, errors.Join(failures...)
}

// group returns which names belong to which of n parts.
func group[Row any](rows map[string]Row, place func(name string, parts int) int, n int) [][]string {
	groups := make([][]string, n)
	for name := range rows {
		i := place(name, n)
		groups[i] = append(groups[i], name)
	}
	return groups
}

func pick[Row any](rows map[string]Row, names []string) map[string]Row {
	picked := make(map[string]Row, len(names))
	for _, name := range names {
		picked[name] = rows[name]
	}
	return picked
}

// encodePart makes a part of the rows of t, or takes it from those known.
func encodePart(t *table.Table, known map[string]*part) (*part, error) {
	text, rows := table.EncodePart(t), len(t.Subscriptions)+len(t.Applications)+len(t.Keys)
	switch {
	case len(text) > table.MaxPartBytes && rows == 1:
		return nil, errRowTooLarge
	case len(text) > table.MaxPartBytes || rows > table.MaxPartRows:
		return nil, errTooLarge
	}
	sum := table.PartSum(text)
	if p := known[sum]; p != nil {
		return p, nil
	}
	zipped, err := compressed(text)
	if err != nil {
		return nil, fmt.Errorf("compressing part: %w", err)
	}
	return &part{sum: sum, size: len(text), zipped: zipped}, nil
}

// changed are names of rows, by the section that they are in.
type changed struct{ subscriptions, applications, keys []string }

// with returns the partition of t, which differs from the table of p by change.
// What it costs grows with the change. It is nil if that cannot be had so.
func (p *partition) with(t *table.Table, change *compile.Change) (*partition, error) {
	n := len(p.parts)
	touched := map[int]*changed{}
	touch := func(i int) *changed {
		if touched[i] == nil {
			touched[i] = &changed{}
		}
		return touched[i]
	}
	for _, name := range change.Subscriptions {
		c := touch(table.PartOfName(name, n))
		c.subscriptions = append(c.subscriptions, name)
	}
	for _, name := range change.Applications {
		c := touch(table.PartOfName(name, n))
		c.applications = append(c.applications, name)
	}
	for _, digest := range change.Keys {
		c := touch(table.PartOfKey(digest, n))
		c.keys = append(c.keys, digest)
	}
	next := &partition{parts: append([]*part{}, p.parts...), rows: p.rows}
	for i, names := range touched {
		var err error
		if next.parts[i], err = next.amend(p.parts[i], t, names); errors.Is(err, errTooLarge) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	if next.rows.parts() != n || !next.rows.agrees(t) {
		return nil, nil
	}
	return next, nil
}

// amend returns what becomes of a part if the named rows are as in t, and counts
// them.
func (p *partition) amend(old *part, t *table.Table, names *changed) (*part, error) {
	text, err := old.text()
	if err != nil {
		return nil, fmt.Errorf("reading part: %w", err)
	}
	var rows table.Table
	if err := json.Unmarshal(text, &rows); err != nil {
		return nil, fmt.Errorf("reading part: %w", err)
	}
	c := &p.rows
	for _, name := range names.subscriptions {
		c.add(&c.subscriptions, table.PartOfName(name, table.MaxParts), replace(rows.Subscriptions, t.Subscriptions, name))
	}
	for _, name := range names.applications {
		c.add(&c.applications, table.PartOfName(name, table.MaxParts), replace(rows.Applications, t.Applications, name))
	}
	for _, digest := range names.keys {
		c.add(&c.keys, table.PartOfKey(digest, table.MaxParts), replace(rows.Keys, t.Keys, digest))
	}
	return encodePart(&rows, map[string]*part{old.sum: old})
}

// replace makes a row of to as it is in from. It returns by how many rows to has
// grown.
func replace[Row any](to, from map[string]Row, name string) int32 {
	before := len(to)
	if row, ok := from[name]; ok {
		to[name] = row
	} else {
		delete(to, name)
	}
	return int32(len(to) - before)
}

// index returns what lists the parts of t.
func (p *partition) index(t *table.Table) *table.Table {
	index := &table.Table{Revision: t.Revision, IssuedAt: t.IssuedAt, Plans: t.Plans, APIs: t.APIs, Parts: make([]string, len(p.parts))}
	for i := range p.parts {
		index.Parts[i] = p.parts[i].sum
	}
	return index
}

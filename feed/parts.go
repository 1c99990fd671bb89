package feed

import (
	"errors"
	"fmt"

	"github.com/tollgate-apim/tollgate/table"
)

// maxTries is how often one poll asks for an index whose parts are gone.
const maxTries = 3

// errPartGone says that an endpoint has no part that its index lists. It has
// another index by then.
var errPartGone = errors.New("a part that the index lists is not there")

// complete makes next, whose table is an index of indexBytes, a table with all
// its parts. Those that held has are taken from there, and the others fetched. If
// that fails half way, what was fetched is kept for the next poll.
func (f *Feed) complete(next, held *Snapshot, endpoint string, indexBytes int) error {
	index := next.Table
	parts := make([]*table.Part, len(index.Parts))
	var known []string
	if held != nil && len(held.Table.Parts) == len(parts) {
		known = held.Table.Parts
		copy(parts, table.LoadedParts(held.Table))
		next.partBytes = held.partBytes
	}
	// Part by part, so the loops look only at what is new.
	var changed []int
	fetched := map[string]*table.Part{}
	for i, sum := range index.Parts {
		if known != nil && known[i] == sum {
			continue
		}
		changed = append(changed, i)
		if known != nil {
			next.partBytes -= int64(len(parts[i].Text()))
		}
		if part := f.fetched[sum]; part != nil {
			fetched[sum] = part
		}
	}
	f.fetched = fetched
	for _, i := range changed {
		part := fetched[index.Parts[i]]
		if part == nil {
			var err error
			left := f.cfg.MaxBytes - int64(indexBytes) - next.partBytes
			if part, err = f.fetch(endpoint, index.Parts[i], left); err != nil {
				return fmt.Errorf("part %d of %d of revision %d: %w", i+1, len(parts), index.Revision, err)
			}
			fetched[index.Parts[i]] = part
		}
		next.partBytes += int64(len(part.Text()))
		parts[i] = part
	}
	if int64(indexBytes)+next.partBytes > f.cfg.MaxBytes {
		return f.tooLarge()
	}
	whole, err := table.Assemble(index, parts)
	if err != nil {
		return err
	}
	next.Table = whole
	f.fetched = nil
	return nil
}

// fetch asks an endpoint for the part of a sum, of so many bytes at most.
func (f *Feed) fetch(endpoint, sum string, atMost int64) (*table.Part, error) {
	if atMost < 0 {
		return nil, f.tooLarge()
	}
	whole := atMost <= table.MaxPartBytes
	if !whole {
		atMost = table.MaxPartBytes
	}
	a, err := f.ask(question{endpoint: endpoint, path: table.PartPath(sum), what: "a part", accept: acceptPart, atMost: atMost})
	if whole && errors.Is(err, table.ErrTooLarge) {
		return nil, f.tooLarge()
	}
	if a.missing {
		return nil, fmt.Errorf("%w: %w", errPartGone, err)
	}
	if err != nil {
		return nil, err
	}
	if a.notModified {
		return nil, errNotModified
	}
	return table.ParsePart(sum, a.body)
}

func (f *Feed) tooLarge() error {
	return fmt.Errorf("%w: over %d bytes with its parts", table.ErrTooLarge, f.cfg.MaxBytes)
}

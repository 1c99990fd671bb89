package compile

import (
	"reflect"

	"github.com/tollgate-apim/tollgate/table"
)

// Change says which rows of a table are not as they were in the one before. Rows
// that came, went or say something else are named, once each and in no order.
type Change struct {
	// Plans and APIs say whether any row of these sections changed. There are few
	// of them.
	Plans, APIs                       bool
	Subscriptions, Applications, Keys []string
}

// Empty reports whether nothing changed.
func (c *Change) Empty() bool {
	return !c.Plans && !c.APIs && len(c.Subscriptions)+len(c.Applications)+len(c.Keys) == 0
}

// Diff compares two tables row by row.
func Diff(before, after *table.Table) *Change {
	return &Change{
		Plans:         len(differing(before.Plans, after.Plans)) > 0,
		APIs:          len(differing(before.APIs, after.APIs)) > 0,
		Subscriptions: differing(before.Subscriptions, after.Subscriptions),
		Applications:  differing(before.Applications, after.Applications),
		Keys:          differing(before.Keys, after.Keys),
	}
}

func differing[Row any](before, after map[string]Row) []string {
	var names []string
	for name, row := range after {
		if old, ok := before[name]; !ok || !reflect.DeepEqual(old, row) {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

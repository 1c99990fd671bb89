package reporter

import "github.com/tollgate-apim/tollgate/usage"

// tally holds what waits to be reported: how many requests there were of each
// kind. The zero value is not usable.
type tally struct {
	// counts are by rows without their count. One may be below zero for a while:
	// what it stands for was added too early under another name, or comes yet.
	counts map[usage.Row]int64
	// total is the sum of counts.
	total int64
	// most is how many kinds are told apart.
	most int
}

func newTally(most int) *tally {
	return &tally{counts: map[usage.Row]int64{}, most: most}
}

// add counts a row. Where there are too many kinds already, those of unknown
// callers, of which there are few, take it in. It says whether that was so.
func (t *tally) add(row usage.Row) (merged bool) {
	merged = false
	count := row.Count
	row.Count = 0
	row = usage.Shorten(row)
	before, known := t.counts[row]
	if !known && len(t.counts) >= t.most {
		merged = row.Application != "" || row.KeyTitle != ""
		row = usage.Row{API: row.API, Code: row.Code, Reason: row.Reason, DryRun: row.DryRun}
		before = t.counts[row]
	}
	t.total += count
	if before+count == 0 {
		delete(t.counts, row)
	} else {
		t.counts[row] = before + count
	}
	return merged
}

// take removes and returns so many rows at most.
func (t *tally) take(most int) []usage.Row {
	rows := []usage.Row{}
	for row, count := range t.counts {
		if len(rows) >= most {
			break
		}
		if count > 0 {
			row.Count = count
			rows = append(rows, row)
		}
	}
	for _, row := range rows {
		t.total -= row.Count
		row.Count = 0
		delete(t.counts, row)
	}
	return rows
}

// full says whether it tells as many kinds apart as it may.
func (t *tally) full() bool { return len(t.counts) >= t.most }

// waits says whether there is a row to take.
func (t *tally) waits() bool {
	for _, count := range t.counts {
		if count > 0 {
			return true
		}
	}
	return false
}

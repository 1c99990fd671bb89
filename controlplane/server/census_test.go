package server

import (
	"math/rand/v2"
	"testing"

	"github.com/tollgate-apim/tollgate/table"
)

// grow adds rows at random places, or takes them away.
func (c *census) grow(random *rand.Rand, rows int) {
	for range max(rows, -rows) {
		place := random.IntN(table.MaxParts)
		if rows > 0 {
			c.add(&c.keys, place, 1)
		} else if c.places[place] > 0 {
			c.add(&c.keys, place, -1)
		}
	}
}

func TestPartsHaveTheRightSize(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	c := &census{}
	for c.total() < 3_000_000 {
		n := c.parts()
		if rows := c.total() / n; n&(n-1) != 0 || rows > leastRows*5/2 || n > 1 && rows < leastRows*4/5 {
			t.Errorf("%d rows make %d parts of %d", c.total(), n, rows)
		}
		c.grow(random, 1+c.total()/10)
	}
}

// TestPartsStay adds rows one by one, and takes some away again.
func TestPartsStay(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	c := &census{}
	c.grow(random, 10_000)
	n, changes := c.parts(), 0
	for c.total() < 100_000 {
		c.grow(random, 2)
		c.grow(random, -1)
		if now := c.parts(); now != n {
			n, changes = now, changes+1
		}
	}
	// It has doubled three or four times. Of the 100,000 rows that came and the
	// 100,000 that went, few others have made a difference.
	if changes > 8 {
		t.Errorf("the number of parts changed %d times", changes)
	}
}

// TestPartsOfRowsInOnePlace has rows whose names do not have the hashes that
// chance gives.
func TestPartsOfRowsInOnePlace(t *testing.T) {
	for _, place := range []int{0, 1, table.MaxParts - 1} {
		c := &census{}
		c.add(&c.keys, place, 100_000)
		if n := c.parts(); 100_000/n < leastRows/2 || 100_000/n > leastRows*4 {
			t.Errorf("in place %d: %d parts", place, n)
		}
	}
}

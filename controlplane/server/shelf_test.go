package server

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestShelfIsBounded puts one large part after the other.
func TestShelfIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shelf
		defer s.close()
		const puts = 20
		for n := range puts {
			s.put([]*part{{sum: "small"}, {sum: fmt.Sprint(n), zipped: make([]byte, 8<<20)}})
			time.Sleep(time.Second)
		}
		found := ""
		for n := range puts {
			found += fmt.Sprint(s.find(fmt.Sprint(n)) != nil, " ")
		}
		// What is left is the one in force, and others that have its size and 64 MB
		// together.
		if want := strings.Repeat("false ", puts-10) + strings.Repeat("true ", 10); found != want {
			t.Errorf("what is there is %s, want %s", found, want)
		}
		if s.find("small") == nil {
			t.Error("what was always in force is gone")
		}
	})
}

// TestShelfEnds looks at what is left when nothing is put any more, and whether
// the timer ends.
func TestShelfEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shelf
		s.put([]*part{{sum: "first"}})
		s.put([]*part{{sum: "second"}})
		time.Sleep(time.Minute)
		s.put([]*part{{sum: "third"}})
		time.Sleep(keepParts - time.Minute)
		synctest.Wait()
		if len(s.parts) != 2 || s.find("second") == nil {
			t.Errorf("after %s there are %d parts, want the second and the third", keepParts, len(s.parts))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.parts) != 1 || s.find("third") == nil || s.timer != nil {
			t.Errorf("later there are %d parts and the timer %v, want the third and none", len(s.parts), s.timer)
		}
		s.put(nil)
		s.close()
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(s.parts) != 1 {
			t.Errorf("after the end there are %d parts, want the third: the timer went off", len(s.parts))
		}
	})
}

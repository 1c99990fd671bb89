package reporter

import (
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/usage"
)

// conflict is the answer of an endpoint that has taken another report last.
func conflict(last int64) feed.Reply {
	return feed.Reply{
		Endpoint: "http://e", Status: 409, Body: []byte(fmt.Sprintf(`{"sequence": %d}`, last)),
		Err: errors.New("status 409"),
	}
}

// Where no number is left, reports go on as those of another instance, and what the
// refused one counts with them.
func TestLastSequenceNumber(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	g.reporter.Wake()
	g.untilPost()
	g.count("apps/a", 3)
	g.answer = func(_ *usage.Report) feed.Reply { return conflict(usage.MaxCount) }
	g.untilPost()
	g.answer = nil
	g.count("apps/a", 4)
	if took := g.untilPost(); took != firstRetry {
		t.Errorf("the next one came after %s, want %s", took, firstRetry)
	}
	if r := g.lastPost(); r.Instance != testInstance2+"02" || r.Sequence != 1 || len(r.Usage) != 1 || r.Usage[0].Count != 7 {
		t.Errorf("got %+v", r)
	}
	g.wantCounted("apps/a", 7)
	if len(g.answers) != 3 || g.answers[1] != nil || g.answers[2] == nil {
		t.Errorf("got the answers %v, want nil for what was refused", g.answers)
	}
	g.wantLines(firstLine,
		"! reports to http://e: status 409: it takes no more of instance "+testInstance+"; they go on as those of instance "+testInstance2+"02",
		"+ reports to http://e: accepted again")
	g.count("apps/a", 1)
	g.untilPost()
	if r := g.lastPost(); r.Instance != testInstance2+"02" || r.Sequence != 2 {
		t.Errorf("then got %+v", r)
	}
}

// A report that had no answer before may have been counted, so it is not told again,
// and that is said.
func TestLastSequenceNumberInDoubt(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.count("apps/a", 3)
	g.answer = func(r *usage.Report) feed.Reply {
		g.accept(r)
		return feed.Reply{Endpoint: "http://e", Err: errors.New("no answer")}
	}
	g.untilPost()
	g.answer = func(_ *usage.Report) feed.Reply { return conflict(usage.MaxCount) }
	g.untilPost()
	g.answer = nil
	g.count("apps/a", 4)
	g.untilPost()
	g.untilPost()
	g.wantCounted("apps/a", 7)
	if len(g.lines) != 3 || !strings.HasSuffix(g.lines[1], "; 3 requests that it told of before, without an answer, may have been counted, and will not be told again") {
		t.Errorf("got the lines %q", g.lines)
	}
}

// The last number of all is used, and then another instance begins.
func TestSequenceNumbersUsedUp(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.answer = func(_ *usage.Report) feed.Reply { return conflict(usage.MaxCount - 1) }
	g.untilPost()
	g.answer = nil
	g.count("apps/a", 3)
	g.untilPost()
	if r := g.lastPost(); r.Instance != testInstance || r.Sequence != usage.MaxCount {
		t.Errorf("got %+v", r)
	}
	g.count("apps/a", 4)
	g.untilPost()
	if r := g.lastPost(); r.Instance != testInstance2+"02" || r.Sequence != 1 {
		t.Errorf("then got %+v", r)
	}
	g.wantCounted("apps/a", 7)
}

// An endpoint that names a number that makes no sense, time after time, gets reports of
// another instance; and of further ones later and later.
func TestRefusedForGood(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.count("apps/a", 3)
	g.answer = func(_ *usage.Report) feed.Reply { return conflict(0) }
	for i := 0; i < mostSenseless; i++ {
		g.untilPost()
		if got := g.lastPost().Instance; got != testInstance {
			t.Fatalf("report %d is of instance %s", i+1, got)
		}
	}
	g.answer = func(_ *usage.Report) feed.Reply { return conflict(usage.MaxCount) }
	if took := g.untilPost(); took != maxRetry || g.lastPost().Instance != testInstance2+"02" {
		t.Errorf("after %s: %+v", took, g.lastPost())
	}
	for i := 0; i < 5; i++ {
		if took := g.untilPost(); took != maxRetry {
			t.Errorf("another instance came after %s, want %s", took, maxRetry)
		}
	}
	g.answer = nil
	g.untilPost()
	g.wantCounted("apps/a", 3)
	told := 0
	for _, line := range g.lines {
		if strings.Contains(line, "they go on as those of instance") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("it was told %d times, want once: %q", told, g.lines)
	}
}

// limited answers as a web server does that takes so many bytes at most.
func limited(g *rig, bytes int) func(*usage.Report) feed.Reply {
	return func(r *usage.Report) feed.Reply {
		if len(g.posts[len(g.posts)-1]) > bytes {
			return feed.Reply{Endpoint: "http://e", Status: 413, Err: errors.New("status 413")}
		}
		return g.accept(r)
	}
}

func refused(g *rig, bytes int) int {
	n := 0
	for _, body := range g.posts {
		if len(body) > bytes {
			n++
		}
	}
	return n
}

// Where less is allowed than reports have, they are made smaller, and stay so for an
// hour.
func TestTooLarge(t *testing.T) {
	for _, bytes := range []int{400 << 10, 64 << 10, 8 << 10, 1 << 10} {
		g := newRig(t)
		g.reporter.Wake()
		g.answer = limited(g, bytes)
		const kinds = 3000
		for i := 0; i < kinds; i++ {
			g.count(fmt.Sprint("apps/", strings.Repeat("x", 200), i), 1)
		}
		for i := 0; i < 5000 && len(g.got) < kinds; i++ {
			if took := g.untilPost(); i > 0 && took != soonest {
				t.Fatalf("%d bytes: the next report came after %s, want %s", bytes, took, soonest)
			}
		}
		if len(g.got) != kinds {
			t.Fatalf("%d bytes: got %d kinds, want %d", bytes, len(g.got), kinds)
		}
		for row, n := range g.got {
			if n != 1 {
				t.Fatalf("%d bytes: %d times of %s", bytes, n, row.Application)
			}
		}
		if g.accepted != int64(len(g.posts)-refused(g, bytes)) {
			t.Errorf("%d bytes: %d reports were taken, the last has number %d", bytes, len(g.posts)-refused(g, bytes), g.accepted)
		}
		if n := refused(g, bytes); n > 11 {
			t.Errorf("%d bytes: %d reports were too large", bytes, n)
		}
		// It may take two rounds until no report is too large any more.
		if n := len(g.lines); n > 4 || n%2 > 0 || !strings.HasPrefix(g.lines[n-2], "! reports to http://e: status 413, to ") || !strings.HasSuffix(g.lines[n-1], ": accepted again") {
			t.Errorf("%d bytes: got the lines %q", bytes, g.lines)
		}

		// For an hour it is not tried again.
		before := refused(g, bytes)
		more := func() {
			for i := 0; i < kinds; i++ {
				g.count(fmt.Sprint("apps/", strings.Repeat("y", 200), i), 1)
			}
			g.untilPost()
		}
		more()
		if n := refused(g, bytes); n != before {
			t.Errorf("%d bytes: soon afterwards, another report is too large", bytes)
		}
		g.clock = g.clock.Add(narrowFor)
		g.untilPost()
		if n := refused(g, bytes); n != before+1 {
			t.Errorf("%d bytes: after an hour, %d reports more are too large, want 1", bytes, n-before)
		}
	}
}

// Entries are made fewer like rows. A report that cannot be made smaller is a failure.
func TestTooManyEntries(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	for i := 0; i < 500; i++ {
		g.entries = append(g.entries, entriesOf(fmt.Sprint("bucket ", i))...)
	}
	g.reporter.Wake()
	g.answer = limited(g, 10<<10)
	for i := 0; i < 10 && g.accepted == 0; i++ {
		g.untilPost()
	}
	if r := g.lastPost(); g.accepted != 1 || len(r.Entries) < 20 || len(r.Entries) > 80 {
		t.Errorf("got report %d with %d entries", g.accepted, len(r.Entries))
	}
	if len(g.answers) != len(g.posts) || g.answers[0] != nil || g.answers[len(g.answers)-1] == nil {
		t.Errorf("%d answers to %d reports", len(g.answers), len(g.posts))
	}

	g.answer = limited(g, 10)
	for i := 0; i < 100 && g.reporter.failures == 0; i++ {
		g.untilPost()
	}
	if took := g.untilPost(); g.reporter.failures == 0 || took < firstRetry || len(g.lastPost().Entries) > 2 {
		t.Errorf("one that cannot be smaller came again after %s: %+v", took, g.lastPost())
	}
}

// Where nothing is small enough, reports come no more often than after other failures,
// also if what they have at least is more than the smallest should have.
func TestNothingIsSmallEnough(t *testing.T) {
	for _, long := range []int{1, 1000} {
		g := newRig(t)
		g.sharing = true
		for i := 0; i < 500; i++ {
			g.entries = append(g.entries, entriesOf(fmt.Sprint("bucket ", i))...)
		}
		g.answer = refusing(413)
		g.reporter.Wake()
		for i := 0; i < 30; i++ {
			g.count(fmt.Sprint("apps/", strings.Repeat("x", long), i), 1)
			g.untilPost()
		}
		if took := g.untilPost(); took != maxRetry {
			t.Errorf("names of %d bytes: the next report came after %s, want %s: %s", long, took, maxRetry, g.posts[len(g.posts)-1])
		}
		g.answer = nil
		for i := 0; i < 100; i++ {
			g.untilPost()
		}
		if len(g.got) != 30 {
			t.Errorf("names of %d bytes: got %d kinds, want 30", long, len(g.got))
		}
	}
}

// A report that had no answer is not divided: part of it might count twice.
func TestTooLargeInDoubt(t *testing.T) {
	for _, counted := range []bool{true, false} {
		g := newRig(t)
		g.reporter.Wake()
		for i := 0; i < 100; i++ {
			g.count(fmt.Sprint("apps/", i), 1)
		}
		g.answer = func(r *usage.Report) feed.Reply {
			if counted {
				g.accept(r)
			}
			return refusing(502)(r)
		}
		g.untilPost()
		g.answer = limited(g, 4<<10)
		g.untilPost()
		for i := 0; i < 100; i++ {
			g.count(fmt.Sprint("more/", i), 1)
		}
		for i := 0; i < 20; i++ {
			g.untilPost()
		}
		want := 100
		if counted {
			want = 200
		}
		if len(g.got) != want {
			t.Errorf("counted before: %t: got %d kinds, want %d", counted, len(g.got), want)
		}
		told := strings.Join(g.lines, "\n")
		if !strings.Contains(told, "smaller ones follow; 100 requests that it told of before, without an answer, may have been counted, and will not be told again") {
			t.Errorf("got the lines %s", told)
		}
	}
}

// Whatever is refused, doubtful or lost on the way, no request counts twice, and what
// is not counted was told.
func TestBlockedReportsCountOnce(t *testing.T) {
	for seed := int64(1); seed <= 100; seed++ {
		dice := rand.New(rand.NewSource(seed))
		g := newRig(t)
		g.reporter.Wake()
		allowed := 700 + dice.Intn(3000)
		g.answer = func(r *usage.Report) feed.Reply {
			if len(g.posts[len(g.posts)-1]) > allowed {
				return refusing(413)(r)
			}
			switch dice.Intn(10) {
			case 0:
				return refusing([]int{0, 404, 500, 503}[dice.Intn(4)])(r)
			case 1:
				g.accept(r)
				return feed.Reply{Err: errors.New("no answer")}
			case 2:
				return conflict(usage.MaxCount)
			case 3:
				return conflict(r.Sequence - 1)
			case 4:
				allowed = 700 + dice.Intn(3000)
				g.reporter.Renew()
			}
			return g.accept(r)
		}
		sent := int64(0)
		for i := 0; i < 100; i++ {
			for n := dice.Intn(20); n >= 0; n-- {
				sent++
				g.count(fmt.Sprint("apps/", dice.Intn(40)), 1)
			}
			g.step()
		}
		g.answer = nil
		g.reporter.Renew()
		for i := 0; i < 30; i++ {
			g.step()
		}
		got := int64(0)
		for _, n := range g.got {
			got += n
		}
		doubtful := int64(0)
		for _, line := range g.lines {
			before, _, found := strings.Cut(line, " requests that it told of before")
			if found {
				n := int64(0)
				_, _ = fmt.Sscan(before[strings.LastIndex(before, " "):], &n)
				doubtful += n
			}
		}
		if got > sent || got < sent-doubtful {
			t.Fatalf("seed %d: %d requests were counted of %d, and it was told of %d that they may not be", seed, got, sent, doubtful)
		}
	}
}

// That an endpoint takes no reports says nothing of the next one.
func TestNoReportsAtOneEndpoint(t *testing.T) {
	g := newRig(t)
	g.reporter.Wake()
	g.count("apps/a", 3)
	g.answer = func(r *usage.Report) feed.Reply {
		reply := refusing(404)(r)
		reply.Endpoint = g.endpoint
		return reply
	}
	g.untilPost()
	g.step()
	g.step()
	if len(g.posts) != 1 {
		t.Fatalf("%d reports, want 1", len(g.posts))
	}
	g.endpoint = "http://also-none"
	if took := g.untilPost(); took > longestRest {
		t.Errorf("the next endpoint got a report after %s", took)
	}
	g.step()
	if len(g.posts) != 2 {
		t.Fatalf("%d reports, want 2", len(g.posts))
	}
	g.endpoint = "http://e"
	g.answer = nil
	if took := g.untilPost(); took > longestRest {
		t.Errorf("the last endpoint got a report after %s", took)
	}
	g.wantCounted("apps/a", 3)
	g.wantLines("+ reports to http://e: it takes none (status 404 Not Found); they rest until the next table",
		"+ reports to http://also-none: it takes none (status 404 Not Found); they rest until the next table",
		"+ reports to http://e: accepted again")
}

// One that hurries less comes later, and no sooner than its time.
func TestHurryAfter(t *testing.T) {
	g := newRig(t)
	g.sharing = true
	g.entries = entriesOf("a")
	g.next = 10
	g.reporter.Wake()
	g.untilPost()
	for i := 0; i < 3; i++ {
		g.reporter.HurryAfter(time.Second)
		g.reporter.HurryAfter(2 * time.Second)
		if took := g.untilPost(); took != time.Second {
			t.Errorf("the next report came after %s, want 1s", took)
		}
	}
	g.reporter.HurryAfter(time.Second)
	g.reporter.Hurry()
	if took := g.untilPost(); took != gap {
		t.Errorf("the one that hurries more came after %s, want %s", took, gap)
	}
	g.next = 0.5
	g.untilPost()
	g.reporter.HurryAfter(time.Second)
	if took := g.untilPost(); took != 500*time.Millisecond {
		t.Errorf("the usual one came after %s, want 500ms", took)
	}
}
